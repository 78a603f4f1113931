"""Breaks what is told and what is true into claims, and sets them side by side.

Things are matched first, then events; every claim of a caption is then right
or wrong, and every claim of the truth told or missing.
"""

import dataclasses
import itertools
from collections.abc import Hashable, Sequence

from synpo_jax.world.scene import Event, Facts, Thing, main_thing

INVENTED = 2  # wrong claims that naming a thing of no clip amounts to

Claims = dict[Hashable, Hashable]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Claims of a caption against the truth, in words where they fail."""

  right: int
  wrong: tuple[str, ...]
  missing: tuple[str, ...]
  invented: tuple[str, ...]  # things that are not in the clip
  order: float | None  # share of true pairs of events told in order


def compare(told: Facts, truth: Facts, kind: str = "detailed") -> Comparison:
  """Every claim of `told` against `truth`; see `factuality` for the score."""
  who = match_things(told, truth)
  paired = match_events(told, truth, who)
  claims, true = told_claims(told, who, paired), true_claims(truth)
  needed = [key for key in true if _needed(key, truth, kind)]
  invented = tuple(
    named(thing) for i, thing in enumerate(told.things) if i not in who
  )
  wrong = [
    f"{_said(key)}: {claims[key]}"
    for key in claims
    if true.get(key) != claims[key]
  ]
  wrong += [f"invented: {name}" for name in invented for _ in range(INVENTED)]
  wrong += [
    f"does not happen: {in_words(told, event)}"
    for index, event in enumerate(told.events)
    if index not in paired and event.who in who
  ]
  places = [paired[index] for index in sorted(paired)]
  wrong += ["out of order"] * (len(places) - _rising(places))
  return Comparison(
    right=sum(true.get(key) == claims[key] for key in claims),
    wrong=tuple(wrong),
    missing=tuple(_said(key) for key in needed if key not in claims),
    invented=invented,
    order=_order(places, len(truth.events)),
  )


def match_things(told: Facts, truth: Facts) -> dict[int, int]:
  """Told thing -> true thing: each at most once, best likeness first."""
  scored = [
    (-_likeness(a, b), i, j)
    for i, a in enumerate(told.things)
    for j, b in enumerate(truth.things)
    if a.shape == b.shape or (a.colour == b.colour and a.colour is not None)
  ]
  matched: dict[int, int] = {}
  for _, i, j in sorted(scored):
    if i not in matched and j not in matched.values():
      matched[i] = j
  return matched


def _likeness(a: Thing, b: Thing) -> float:
  return (
    3.0 * (a.shape == b.shape)
    + 2.0 * (a.colour == b.colour)
    + 0.5 * (a.size == b.size)
    + 0.5 * (a.zone == b.zone)
  )


def match_events(
  told: Facts, truth: Facts, who: dict[int, int]
) -> dict[int, int]:
  """Told event -> true event: alike in all, then in kind, then in doer."""
  levels = (
    lambda a, b: a == b,
    lambda a, b: (a.kind, a.who) == (b.kind, b.who),
    lambda a, b: (a.kind, a.where, a.whom) == (b.kind, b.where, b.whom),
    lambda a, b: a.kind == b.kind and {a.who, a.whom} == {b.who, b.whom},
    lambda a, b: a.who == b.who,
  )
  matched: dict[int, int] = {}
  for alike in levels:
    for i, event in enumerate(told.events):
      seen = seen_through(event, who)
      if i in matched or seen is None:
        continue
      for j, true in enumerate(truth.events):
        if j not in matched.values() and alike(seen, true):
          matched[i] = j
          break
  return matched


def seen_through(event: Event, who: dict[int, int]) -> Event | None:
  """The event with true indices; None where its doer is invented."""
  if event.who not in who:
    return None
  whom = None if event.whom is None else who.get(event.whom, -1)
  return dataclasses.replace(event, who=who[event.who], whom=whom)


def told_claims(told: Facts, who: dict[int, int], paired) -> Claims:
  """What is said of the things and events that are matched, by true index."""
  claims = setting(told)
  for i, j in who.items():
    claims |= _thing_claims(j, told.things[i])
  for i, j in paired.items():
    event = seen_through(told.events[i], who)
    claims |= _event_claims(j, event)
  claims |= {("still", who[i]): True for i in told.still if i in who}
  return claims


def true_claims(truth: Facts) -> Claims:
  """What can be said of a clip; that a thing is still need not be said."""
  claims = setting(truth)
  for index, thing in enumerate(truth.things):
    claims |= _thing_claims(index, thing)
  for index, event in enumerate(truth.events):
    claims |= _event_claims(index, event)
  moving = {event.who for event in truth.events if event.kind != "colour"}
  moving |= {e.whom for e in truth.events if e.kind == "collide"}
  rest = [i for i in range(len(truth.things)) if i not in moving]
  return claims | {("still", i): True for i in rest}


def setting(facts: Facts) -> Claims:
  pairs = {
    "background": facts.background,
    "tone": facts.tone,
    "camera": facts.camera,
  }
  return {key: value for key, value in pairs.items() if value is not None}


def _thing_claims(index: int, thing: Thing) -> Claims:
  fields = ("shape", "colour", "size", "zone")
  return {
    ("thing", index, field): getattr(thing, field)
    for field in fields
    if getattr(thing, field) is not None
  }


def _event_claims(index: int, event: Event) -> Claims:
  claims: Claims = {("event", index, "kind"): (event.kind, event.who)}
  for field in ("where", "whom"):
    if getattr(event, field) is not None:
      claims["event", index, field] = getattr(event, field)
  return claims


def _needed(key: Hashable, truth: Facts, kind: str) -> bool:
  """Whether a caption of that kind has to make that claim."""
  head = key if isinstance(key, str) else key[0]
  if head == "still":
    return False
  ground = head in ("background", "tone")
  if kind == "detailed":
    return True
  if kind in ("background", "camera"):
    return ground if kind == "background" else head == "camera"
  main = main_thing(truth)
  mine = [i for i, event in enumerate(truth.events) if event.who == main]
  if kind == "short":
    mine = mine[:1]
    if ground:
      return True
  if head == "thing":
    return key[1] == main and not (kind == "short" and key[2] == "zone")
  return head == "event" and key[1] in mine


def named(thing: Thing) -> str:
  return " ".join(word for word in (thing.colour, thing.shape) if word)


def _said(key: Hashable) -> str:
  if isinstance(key, str):
    return key
  head, index, *field = key
  return " ".join([f"{head} {index + 1}", *field])


def in_words(facts: Facts, event: Event) -> str:
  words = [named(facts.things[event.who]), event.kind, event.where]
  if event.whom is not None:
    words.append(named(facts.things[event.whom]))
  return " ".join(word for word in words if word)


def _rising(places: Sequence[int]) -> int:
  """Length of the longest rising subsequence."""
  best: list[int] = []
  for i, place in enumerate(places):
    before = [best[j] for j in range(i) if places[j] < place]
    best.append(1 + max(before, default=0))
  return max(best, default=0)


def _order(places: Sequence[int], events: int) -> float | None:
  if events < 2:
    return None
  rising = sum(a < b for a, b in itertools.combinations(places, 2))
  return rising / (events * (events - 1) / 2)
