"""Says the facts of a scene in words, in a fixed order and varied wording.

The order of telling is: background, camera, things there at the start, events
in time order, things that stay still.
"""

import numpy as np

from synpo_jax.world import scene
from synpo_jax.world import wording as say
from synpo_jax.world.chance import pick
from synpo_jax.world.scene import Event, Facts

KINDS = ("detailed", "short", "background", "camera", "main_object")


def tell(facts: Facts, rng: np.random.Generator, kind: str = "detailed") -> str:
  """A caption that says all of `facts` (or its part of that kind).

  Args:
    facts: what is to be said, true or spoilt.
    rng: chooses among the wordings only.
    kind: one of `KINDS`.
  """
  if kind not in KINDS:
    raise ValueError(f"no caption of kind {kind!r}; kinds: {', '.join(KINDS)}")
  return " ".join(sentences(facts, rng, kind))


def sentences(
  facts: Facts, rng: np.random.Generator, kind: str = "detailed"
) -> list[str]:
  """The sentences of `tell`, apart."""
  if kind == "short":
    return _short(facts, rng)
  if kind == "main_object":
    return _main_object(facts, rng)
  told = []
  if kind in ("detailed", "background") and facts.background is not None:
    told.append(pick(rng, say.BACKGROUND).format(place=_place(facts)))
  if kind in ("detailed", "camera") and facts.camera is not None:
    told.append(pick(rng, say.CAMERA[facts.camera]))
  if kind == "detailed":
    told += _opening(facts, rng) + _story(facts, rng) + _still(facts, rng)
  return told


def _place(facts: Facts) -> str:
  return say.PLACES[facts.background, facts.tone]


def _first(facts: Facts, who: int) -> str:
  thing = facts.things[who]
  return f"a {thing.size} {thing.colour} {thing.shape}"


def _again(facts: Facts, who: int, event: int) -> str:
  colour = scene.colour_at(facts, who, event)
  return f"the {colour} {facts.things[who].shape}"


def _listed(parts: list[str]) -> str:
  if len(parts) < 3:
    return " and ".join(parts)
  return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _sentence(text: str) -> str:
  return text[0].upper() + text[1:] + "."


def _opening(facts: Facts, rng) -> list[str]:
  seen = [i for i, thing in enumerate(facts.things) if thing.zone is not None]
  if not facts.things:
    return []
  if not seen:
    return [pick(rng, say.EMPTY)]
  parts = [
    f"{_first(facts, i)} {say.ZONES[facts.things[i].zone]}" for i in seen
  ]
  return [f"{pick(rng, say.OPENING)} {_listed(parts)}."]


def _story(facts: Facts, rng) -> list[str]:
  last = len(facts.events) - 1
  told = []
  for index in range(len(facts.events)):
    when = say.FIRST if index == 0 else say.LAST if index == last else say.LATER
    if last == 0:
      when = say.ONLY
    told.append(_sentence(f"{pick(rng, when)} {_clause(facts, index, rng)}"))
    while told[-1] in told[:-1]:  # the same again, but not in the same words
      told[-1] = _sentence(f"{pick(rng, when)} {_clause(facts, index, rng)}")
  return told


def _clause(facts: Facts, index: int, rng, subject: str | None = None) -> str:
  event = facts.events[index]
  form = pick(rng, say.EVENTS[event.kind])
  return form.format(
    a=_first(facts, event.who) if subject is None else subject,
    s=_again(facts, event.who, index) if subject is None else subject,
    o=_other(facts, index, named=subject is None),
    **_details(event),
  )


def _other(facts: Facts, index: int, *, named: bool) -> str:
  """The other thing of an event; by its shape alone when it was not met."""
  whom = facts.events[index].whom
  if whom is None:
    return ""
  if named:
    return _again(facts, whom, index)
  return f"the {facts.things[whom].shape}"


def _details(event: Event) -> dict[str, str]:
  ways = say.WAYS if event.kind in ("move", "turn") else say.SIDES
  where = event.where or ""
  words = ways.get(where, where)
  return {"way": words, "side": words, "colour": where}


def _still(facts: Facts, rng) -> list[str]:
  """What never moves; late enough that events come before it."""
  end = len(facts.events)
  names = [_again(facts, who, end) for who in facts.still]
  if not names:
    return []
  rest = pick(rng, say.STILL if len(names) == 1 else say.STILL_MANY)
  return [_sentence(f"{_listed(names)} {rest}")]


def _short(facts: Facts, rng) -> list[str]:
  """One sentence: the main thing, the first thing it does, the place."""
  if not facts.things or facts.background is None:
    return []
  who = scene.main_thing(facts)
  doings = [i for i, event in enumerate(facts.events) if event.who == who]
  if doings:
    does = _clause(facts, doings[0], rng, subject="").strip()
  else:
    does = pick(rng, say.STILL)
  form = pick(rng, say.SHORT)
  text = form.format(a=_first(facts, who), does=does, place=_place(facts))
  return [text[0].upper() + text[1:]]


def _main_object(facts: Facts, rng) -> list[str]:
  if not facts.things:
    return []
  who = scene.main_thing(facts)
  zone = facts.things[who].zone
  told = [pick(rng, say.MAIN).format(a=_first(facts, who))]
  if zone is None:
    told.append(pick(rng, say.MAIN_LATE))
  else:
    told.append(pick(rng, say.MAIN_START).format(zone=say.ZONES[zone]))
  doings = [i for i, event in enumerate(facts.events) if event.who == who]
  for index in doings:
    when = say.FIRST if index == doings[0] else say.LATER
    clause = _clause(facts, index, rng, subject="it")
    told.append(_sentence(f"{pick(rng, when)} {clause}"))
  if not doings:
    told.append(pick(rng, say.MAIN_STILL))
  return told
