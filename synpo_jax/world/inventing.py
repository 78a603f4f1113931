"""Events that could happen to the things of a clip, but do not."""

import numpy as np

from synpo_jax.world import scene
from synpo_jax.world.chance import pick
from synpo_jax.world.scene import Event, Facts

_WAYS = {
  "move": tuple(scene.DIRECTIONS),
  "turn": tuple(scene.STEPS),
  "enter": tuple(scene.SIDES),
  "leave": tuple(scene.SIDES),
  "colour": tuple(scene.COLOURS),
}


def invent(
  facts: Facts, rng: np.random.Generator, taken: tuple[Event, ...] = ()
) -> Event | None:
  """An event that does not happen; None where none is left.

  Half of them are near misses: what a thing does, but in another direction,
  from another side, into another colour, with another thing. None can be
  taken for part of what does happen, as `moves left` in `moves left and turns
  back`.

  Args:
    facts: what happens.
    rng: chooses.
    taken: events not to be invented again.
  """
  known = (*facts.events, *taken)
  options = [
    event
    for event in _all(facts)
    if event not in known and not any(_blurs(event, e) for e in facts.events)
  ]
  alike = {(event.kind, event.who) for event in facts.events}
  near = [event for event in options if (event.kind, event.who) in alike]
  if near and rng.random() < 0.5:
    return pick(rng, near)
  return pick(rng, options) if options else None


def _all(facts: Facts) -> list[Event]:
  """Every event that there are words for."""
  things = range(len(facts.things))
  colours = {thing.colour for thing in facts.things}
  events = [
    Event(kind, who, where)
    for who in things
    for kind, ways in _WAYS.items()
    for where in ways
    if kind != "colour" or where not in colours
  ]
  return events + [
    Event(kind, who, None, whom)
    for who in things
    for whom in things
    if who != whom
    for kind in ("collide", "hide")
  ]


def _blurs(invented: Event, true: Event) -> bool:
  """Whether one could say that the invented event is part of the true one."""
  going = ("move", "turn", "enter", "leave")
  if "collide" in (invented.kind, true.kind):
    shared = {invented.who, invented.whom} & {true.who, true.whom} - {None}
    both = invented.kind == true.kind
    moving = {invented.kind, true.kind} & {"move", "turn", "hide"}
    return len(shared) == 2 if both else bool(shared and moving)
  if invented.who != true.who:
    return False
  if invented.kind == true.kind and invented.kind != "move":
    return False
  if "hide" in (invented.kind, true.kind):
    return bool({invented.kind, true.kind} & {"move", "turn"})
  if invented.kind in going and true.kind in going:
    mine, other = _steps(invented), _steps(true)
    return mine <= other or other <= mine
  return False


def _steps(event: Event) -> set[str]:
  """The ways that a thing goes, as words: in from the left is to the right."""
  opposite = {"left": "right", "right": "left", "top": "down", "bottom": "up"}
  outward = {"top": "up", "bottom": "down"}
  where = event.where or ""
  if event.kind == "enter":
    return {opposite.get(where, where)}
  return {outward.get(word, word) for word in where.split()}
