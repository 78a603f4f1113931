"""Plants faults: facts made wrong, or right facts told in broken language.

Faults of fact are planted in `Facts`, before they are told, so that what is
wrong is known exactly; faults of language are planted in finished sentences.
"""

import dataclasses
from itertools import pairwise

import numpy as np

from synpo_jax.world import scene
from synpo_jax.world.chance import pick
from synpo_jax.world.scene import Event, Facts, Thing
from synpo_jax.world.staging import telling_order

FACTUAL = ("attribute", "order", "invention", "omission")
FAULTS = (*FACTUAL, "clumsy")


def spoil(facts: Facts, rng: np.random.Generator, fault: str) -> Facts | None:
  """Facts with one fault more, or None where that fault has no place.

  Args:
    facts: true or already spoilt facts.
    rng: chooses the fault's place.
    fault: one of `FACTUAL`.
  """
  if fault not in FACTUAL:
    raise ValueError(f"no fault {fault!r}; faults: {', '.join(FACTUAL)}")
  plant = {
    "attribute": _attribute,
    "order": _order,
    "invention": _invention,
    "omission": _omission,
  }
  spoilt = plant[fault](facts, rng)
  if spoilt is None or any(a == b for a, b in pairwise(spoilt.events)):
    return None
  return arranged(spoilt)


def arranged(facts: Facts) -> Facts:
  """The same facts with their things in the order of telling."""
  entry = {e.who: i for i, e in enumerate(facts.events) if e.kind == "enter"}
  order = sorted(
    range(len(facts.things)),
    key=lambda i: (
      (telling_order(facts.things[i]), 0)
      if facts.things[i].zone is not None
      else ((1, 0, 0), entry.get(i, len(facts.events)))
    ),
  )
  new = {old: index for index, old in enumerate(order)}
  return dataclasses.replace(
    facts,
    things=tuple(facts.things[old] for old in order),
    events=tuple(_renumbered(event, new) for event in facts.events),
    still=tuple(sorted(new[old] for old in facts.still)),
  )


def _renumbered(event: Event, new: dict[int, int]) -> Event:
  whom = None if event.whom is None else new[event.whom]
  return dataclasses.replace(event, who=new[event.who], whom=whom)


def _attribute(facts: Facts, rng) -> Facts | None:
  """Another colour, shape, size, zone, direction, background or camera."""
  places = ["background", "camera"]
  places += [("thing", i) for i in range(len(facts.things))] * 2
  places += [
    ("event", i) for i, e in enumerate(facts.events) if e.where is not None
  ]
  place = pick(rng, places)
  if place == "background":
    kind = _other(rng, scene.BACKGROUNDS, facts.background)
    tone = pick(rng, scene.BACKGROUNDS[kind])
    return dataclasses.replace(facts, background=kind, tone=tone)
  if place == "camera":
    camera = _other(rng, scene.CAMERAS, facts.camera)
    return dataclasses.replace(facts, camera=camera)
  what, index = place
  if what == "thing":
    return _other_thing(facts, index, rng)
  return _other_event(facts, index, rng)


def _other(rng, options, *taken):
  return pick(rng, [option for option in options if option not in taken])


def _colours(facts: Facts) -> set[str | None]:
  changed = {e.where for e in facts.events if e.kind == "colour"}
  return changed | {thing.colour for thing in facts.things}


def _other_thing(facts: Facts, index: int, rng) -> Facts:
  thing = facts.things[index]
  fields = ["colour", "colour", "shape", "size"]
  if thing.zone is not None:
    fields.append("zone")
  field = pick(rng, fields)
  taken = {
    "colour": _colours(facts),
    "shape": {other.shape for other in facts.things},
    "size": {thing.size},
    "zone": {other.zone for other in facts.things},
  }
  options = {
    "colour": scene.COLOURS,
    "shape": scene.SHAPES,
    "size": scene.RADIUS,
    "zone": scene.ZONES,
  }
  value = _other(rng, options[field], *taken[field])
  things = list(facts.things)
  things[index] = dataclasses.replace(thing, **{field: value})
  return dataclasses.replace(facts, things=tuple(things))


def _other_event(facts: Facts, index: int, rng) -> Facts:
  event = facts.events[index]
  if event.kind == "colour":
    where = _other(rng, scene.COLOURS, *_colours(facts))
  elif event.kind in ("enter", "leave"):
    where = _other(rng, scene.SIDES, event.where)
  else:
    ways = scene.STEPS if event.kind == "turn" else scene.DIRECTIONS
    where = _other(rng, ways, event.where)
  events = list(facts.events)
  events[index] = dataclasses.replace(event, where=where)
  return dataclasses.replace(facts, events=tuple(events))


def _order(facts: Facts, rng) -> Facts | None:
  """Two neighbouring events change places."""
  swapped = []
  for i in range(len(facts.events) - 1):
    events = list(facts.events)
    events[i], events[i + 1] = events[i + 1], events[i]
    if possible(facts.things, tuple(events)):
      swapped.append(tuple(events))
  if not swapped:
    return None
  return dataclasses.replace(facts, events=pick(rng, swapped))


def possible(things: tuple[Thing, ...], events: tuple[Event, ...]) -> bool:
  """Whether everything that acts is there when it acts."""
  there = [thing.zone is not None for thing in things]
  for event in events:
    if there[event.who] == (event.kind == "enter"):
      return False
    if event.whom is not None and not there[event.whom]:
      return False
    there[event.who] = event.kind not in ("leave", "hide")
  return True


def _invention(facts: Facts, rng) -> Facts | None:
  """A thing that is not in the clip, standing there or entering."""
  shapes = {thing.shape for thing in facts.things}
  zones = {thing.zone for thing in facts.things}
  if len(shapes) >= len(scene.SHAPES) or len(facts.things) >= 4:
    return None
  enters = rng.random() < 0.4
  thing = Thing(
    _other(rng, scene.SHAPES, *shapes),
    _other(rng, scene.COLOURS, *_colours(facts)),
    pick(rng, list(scene.RADIUS)),
    None if enters else _other(rng, scene.ZONES, *zones),
  )
  events = list(facts.events)
  if enters:
    side = pick(rng, list(scene.SIDES))
    at = int(rng.integers(len(events) + 1))
    events.insert(at, Event("enter", len(facts.things), side))
  things = (*facts.things, thing)
  return dataclasses.replace(facts, things=things, events=tuple(events))


def _omission(facts: Facts, rng) -> Facts | None:
  """An event left out; with its entry, a thing goes too."""
  options = []
  for i, event in enumerate(facts.events):
    events = facts.events[:i] + facts.events[i + 1 :]
    if event.kind == "enter":
      continue
    if events:
      options.append(dataclasses.replace(facts, events=events))
  options += [
    _without(facts, who)
    for who, thing in enumerate(facts.things)
    if len(facts.things) > 1 and _minor(facts, who)
  ]
  return pick(rng, options) if options else None


def _minor(facts: Facts, who: int) -> bool:
  """Whether leaving the thing out leaves a story behind."""
  if any(event.whom == who for event in facts.events):
    return False
  return any(event.who != who for event in facts.events)


def _without(facts: Facts, who: int) -> Facts:
  new = {i: i - (i > who) for i in range(len(facts.things)) if i != who}
  return dataclasses.replace(
    facts,
    things=facts.things[:who] + facts.things[who + 1 :],
    events=tuple(_renumbered(e, new) for e in facts.events if e.who != who),
    still=tuple(new[i] for i in facts.still if i != who),
  )


def flawed(
  facts: Facts, rng: np.random.Generator, faults: int
) -> tuple[Facts, int]:
  """Facts with faults planted, and how many faults of language are to come.

  Together they are `faults` draws from `FAULTS`; a draw that finds no place
  is repeated.
  """
  broken = 0
  for _ in range(faults):
    spoilt = None
    while spoilt is None:
      fault = pick(rng, FAULTS)
      if fault == "clumsy":
        broken, spoilt = broken + 1, facts
      else:
        spoilt = spoil(facts, rng, fault)
    facts = spoilt
  return facts, broken


def clumsy(told: list[str], rng: np.random.Generator, faults: int) -> list[str]:
  """Sentences with that many language faults, each in another sentence.

  A fault is one of: a sentence said twice, a word said twice, a little word
  left out, two words swapped. No fact is lost by any of them.
  """
  told = list(told)
  spots = rng.permutation(len(told))[:faults]
  for spot in sorted(spots.tolist(), reverse=True):
    plant = pick(rng, (_stutter, _dropped, _swapped, None))
    if plant is None:
      told.insert(spot, told[spot])
    else:
      told[spot] = plant(told[spot], rng)
  return told


LITTLE = {"a", "the", "is", "from", "through", "to"}


def _little(words: list[str]) -> list[int]:
  """Places of little words inside a sentence."""
  return [i for i in range(1, len(words) - 1) if words[i] in LITTLE]


def _stutter(sentence: str, rng) -> str:
  words = sentence.split(" ")
  spot = int(rng.integers(1, len(words) - 1))
  word = words[spot].rstrip(",")
  return " ".join([*words[:spot], word, *words[spot:]])


def _dropped(sentence: str, rng) -> str:
  words = sentence.split(" ")
  spots = _little(words)
  if not spots:
    return _stutter(sentence, rng)
  del words[pick(rng, spots)]
  return " ".join(words)


def _swapped(sentence: str, rng) -> str:
  """A little word and the one after it change places."""
  words = sentence.split(" ")
  spots = [i for i in _little(words) if i + 2 < len(words)]
  if not spots:
    return _stutter(sentence, rng)
  spot = pick(rng, spots)
  words[spot], words[spot + 1] = words[spot + 1], words[spot]
  return " ".join(words)
