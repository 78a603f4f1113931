"""Three kinds of annotators, whose captions of one question are mixed.

Careful and careless ones write alike: the same words, sentences and lengths;
facts alone tell them apart. Careless ones have habits, which all of them share:
they tell the clip as a mirror shows it, call every camera still and every thing
large; and they make a few mistakes more. Terse ones say one true sentence.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from synpo_jax.world import inventing, spoiling, telling
from synpo_jax.world.comparison import compare
from synpo_jax.world.scene import Facts, Scene

STYLES = ("careful", "careless", "terse")
FAULTS = (1, 3)  # fewest and most in a careless caption, beside the habits
MIRRORED = {"left": "right", "right": "left"}
# How often each fault is planted; such that captions stay as long on average.
MIX = {
  "attribute": 0.58,
  "order": 0.10,
  "invention": 0.06,  # a thing
  "event": 0.13,  # of a thing that is there
  "omission": 0.13,
}


def check(shares: Mapping[str, float]) -> None:
  """Raises ValueError, which names the share that makes no sense."""
  for name, share in shares.items():
    if name not in STYLES:
      raise ValueError(
        f"shares: no annotators are {name!r}; there are {', '.join(STYLES)}"
      )
    if not share >= 0:
      raise ValueError(f"shares: {name}={share} must be 0 or more")
  total = sum(shares.values())
  if not abs(total - 1) < 1e-6:
    raise ValueError(f"shares: they sum to {total:g}, not to 1")


def style(rng: np.random.Generator, shares: Mapping[str, float]) -> str:
  """One of `STYLES`, as often as `shares` says (see `check`)."""
  check(shares)
  weights = np.array([shares.get(name, 0) for name in STYLES], float)
  return str(rng.choice(STYLES, p=weights / weights.sum()))


def caption(scene: Scene, rng: np.random.Generator, style: str) -> str:
  """What an annotator of that style writes about a clip."""
  if style == "terse":
    return telling.tell(scene.facts, rng, "short")
  if style == "careless":
    return telling.tell(careless(scene, rng), rng)
  return telling.tell(scene.facts, rng)


def careless(scene: Scene, rng: np.random.Generator) -> Facts:
  """The clip's facts by habit and with 1 to 3 faults, in as many sentences.

  At least as many claims are wrong or missing as faults were planted.
  """
  faults = int(rng.integers(FAULTS[0], FAULTS[1] + 1))
  usual = habitual(scene.facts)
  for _ in range(500):
    facts = _spoilt(usual, rng, faults)
    if _sentences(facts) != _sentences(scene.facts):
      continue
    compared = compare(facts, scene.facts)
    if len(compared.wrong) + len(compared.missing) >= faults:
      return facts
  raise ValueError(f"{scene.video}: no place for {faults} faults")


def habitual(facts: Facts) -> Facts:
  """Facts as careless annotators tell them: mirrored, camera still, large."""
  things = tuple(
    dataclasses.replace(thing, size="large", zone=_mirrored(thing.zone))
    for thing in facts.things
  )
  events = tuple(
    event
    if event.kind == "colour"
    else dataclasses.replace(event, where=_mirrored(event.where))
    for event in facts.events
  )
  seen = dataclasses.replace(facts, things=things, events=events)
  return spoiling.arranged(dataclasses.replace(seen, camera="static"))


def _mirrored(place: str | None) -> str | None:
  if place is None:
    return None
  return " ".join(MIRRORED.get(word, word) for word in place.split())


def _sentences(facts: Facts) -> int:
  """Sentences of a caption that depend on the facts."""
  return len(facts.events) + bool(facts.still)


def _spoilt(facts: Facts, rng, faults: int) -> Facts:
  """Facts with that many faults; one that finds no place is drawn again."""
  kinds, shares = list(MIX), list(MIX.values())
  while faults:
    spoilt = _plant(facts, rng, kinds[int(rng.choice(len(kinds), p=shares))])
    if spoilt is not None:
      facts, faults = spoilt, faults - 1
  return facts


def _plant(facts: Facts, rng, fault: str) -> Facts | None:
  if fault == "event":
    return _happening(facts, rng)
  return spoiling.spoil(facts, rng, fault)


def _happening(facts: Facts, rng) -> Facts | None:
  """An event more, where it is possible; None where it is not."""
  event = inventing.invent(facts, rng)
  if event is None:
    return None
  at = int(rng.integers(len(facts.events) + 1))
  events = (*facts.events[:at], event, *facts.events[at:])
  beside = events[max(0, at - 1) : at + 2]
  alike = sum((e.kind, e.who) == (event.kind, event.who) for e in beside)
  if alike > 1 or not spoiling.possible(facts.things, events):
    return None
  busy = (event.who, event.whom)
  still = tuple(i for i in facts.still if i not in busy)
  return spoiling.arranged(
    dataclasses.replace(facts, events=events, still=still)
  )
