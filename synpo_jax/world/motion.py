"""Lays out the ways of things for a list of events, and checks them.

Everything is in world units (the picture's edge is 1), time from 0 to 1. A
layout in which something leaves the picture unannounced, or two things meet
by accident, is refused.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float

from synpo_jax.world import scene
from synpo_jax.world.scene import Event, Thing, Track

PROBES = np.linspace(0.0, 1.0, 49)  # moments at which a layout is checked
Spans = tuple[tuple[float, float], ...]


@dataclasses.dataclass
class _Actor:
  """A thing while its way is being laid out."""

  radius: float
  knots: list[tuple[float, float, float]]
  present: list[float]
  colours: list[tuple[float, str]]


def lay_out(
  rng: np.random.Generator,
  camera: str,
  things: tuple[Thing, ...],
  events: tuple[Event, ...],
  spans: Spans,
) -> tuple[Track, ...] | None:
  """Tracks of all things, or None where this draw cannot be shown clearly."""
  actors = [_start(rng, camera, thing) for thing in things]
  for event, (start, end) in zip(events, spans, strict=True):
    actor = actors[event.who]
    if event.kind == "enter":
      _enter(rng, camera, actor, event.where, start, end)
    elif event.kind == "leave":
      _leave(camera, actor, event.where, start, end)
    elif event.kind == "colour":
      actor.colours.append((0.5 * (start + end), event.where))
    elif event.kind == "hide":
      _hold(actor, start)
      actor.knots.append((end, *_place(actors[event.whom], end)))
    elif event.kind == "collide":
      if not _collide(actor, actors[event.whom], start, end):
        return None
    else:
      _walk(rng, actor, event, start, end)
  if not _clear(camera, actors, events, spans):
    return None
  return tuple(_track(actor) for actor in actors)


def _start(rng, camera: str, thing: Thing) -> _Actor:
  radius = scene.RADIUS[thing.size]
  actor = _Actor(radius, [], [0.0, 1.0], [(0.0, thing.colour)])
  if thing.zone is not None:
    x, y = scene.ZONES[thing.zone]
    dx, dy = rng.uniform(-0.06, 0.06, 2)
    actor.knots.append((0.0, *scene.to_world(camera, 0.0, x + dx, y + dy)))
  return actor


def _place(actor: _Actor, t: float) -> tuple[float, float]:
  times, xs, ys = zip(*actor.knots, strict=True)
  return float(np.interp(t, times, xs)), float(np.interp(t, times, ys))


def _hold(actor: _Actor, t: float) -> None:
  actor.knots.append((t, *_place(actor, t)))


def _walk(rng, actor, event, start, end) -> None:
  """A move, or (turn) a move and the way back."""
  _hold(actor, start)
  dx, dy = scene.DIRECTIONS[event.where]
  far = rng.uniform(0.24, 0.34) if dx and dy else rng.uniform(0.3, 0.5)
  _, x, y = actor.knots[-1]
  there = (x + far * dx, y + far * dy)
  if event.kind == "move":
    actor.knots.append((end, *there))
    return
  actor.knots.append((0.5 * (start + end), *there))
  actor.knots.append((end, x, y))


def _enter(rng, camera, actor, side, start, end) -> None:
  """From just outside the picture to a place well inside it."""
  dx, dy = scene.SIDES[side]
  lane, depth = rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.6)
  margin = actor.radius * scene.camera_at(camera, start)[1]
  edge = (1.0 + margin) if dx + dy > 0 else -margin
  deep = 1.0 - depth if dx + dy > 0 else depth
  outside = (edge, lane) if dx else (lane, edge)
  inside = (deep, lane) if dx else (lane, deep)
  from_ = scene.to_world(camera, start, *outside)
  to = scene.to_world(camera, start, *inside)
  actor.knots += [(start, *from_), (end, *to)]
  actor.present[0] = start


def _leave(camera, actor, side, start, end) -> None:
  """Straight on, until it is just outside the picture."""
  _hold(actor, start)
  dx, dy = scene.SIDES[side]
  margin = actor.radius * scene.camera_at(camera, end)[1]
  edge = (1.0 + margin) if dx + dy > 0 else -margin
  outside = scene.to_world(camera, end, edge, edge)
  _, x, y = actor.knots[-1]
  actor.knots.append((end, outside[0] if dx else x, outside[1] if dy else y))
  actor.present[1] = end


def _collide(actor, other, start, end) -> bool:
  """Runs into the other thing, bounces back; the other is knocked away."""
  _hold(actor, start)
  _hold(other, start)
  here, there = np.array(_place(actor, start)), np.array(_place(other, start))
  gap = float(np.linalg.norm(there - here))
  reach = gap - 0.94 * (actor.radius + other.radius)
  if reach < 0.15:  # too short a run to be seen
    return False
  way = (there - here) / gap
  hit = 0.5 * (start + end)
  actor.knots.append((hit, *(here + reach * way).tolist()))
  actor.knots.append((end, *(here + 0.3 * reach * way).tolist()))
  _hold(other, hit)
  other.knots.append((end, *(there + 0.1 * way).tolist()))
  return True


def _clear(camera, actors, events, spans: Spans) -> bool:
  """Whether everything stays in sight and nothing overlaps by accident."""
  timed = list(zip(events, spans, strict=True))
  if not all(_plain(camera, actors[e.who], e, *span) for e, span in timed):
    return False
  ways = [_sampled(actor) for actor in actors]
  there = [(a.present[0] <= PROBES) & (PROBES <= a.present[1]) for a in actors]
  for i, actor in enumerate(actors):
    watched = there[i].copy()
    for event, (start, end) in timed:
      if event.who == i and event.kind in ("enter", "leave"):
        watched &= (PROBES < start) | (PROBES > end)
    if not _in_sight(camera, actor, ways[i][watched], PROBES[watched]):
      return False
  return all(
    _apart(actors, i, j, ways, there[i] & there[j], timed)
    for i, j in itertools.combinations(range(len(actors)), 2)
  )


def _sampled(actor: _Actor) -> Float[np.ndarray, "T 2"]:
  """World places at all probes."""
  times, xs, ys = zip(*actor.knots, strict=True)
  return np.stack([np.interp(PROBES, times, v) for v in (xs, ys)], axis=-1)


def _in_sight(camera, actor, places, moments) -> bool:
  xs, ys = scene.to_screen(camera, moments, *places.T)
  edge = 0.45 * actor.radius * scene.camera_at(camera, moments)[1]
  low, high = np.minimum(xs, ys), np.maximum(xs, ys)
  return bool(np.all((edge <= low) & (high <= 1 - edge)))


def _plain(camera, actor, event, start, end) -> bool:
  """Whether a move still looks like one while the camera moves too."""
  if event.kind not in ("move", "turn"):
    return True
  until = end if event.kind == "move" else 0.5 * (start + end)
  before = scene.to_screen(camera, start, *_place(actor, start))
  after = scene.to_screen(camera, until, *_place(actor, until))
  steps = zip(before, after, scene.DIRECTIONS[event.where], strict=True)
  return all(d * (b - a) >= 0.2 * abs(d) for a, b, d in steps)


def _apart(actors, i, j, ways, together, told) -> bool:
  """Distance rule for a pair; meeting is allowed where an event says so."""
  near = np.full(len(PROBES), 1.08)
  for event, (start, end) in told:
    if {event.who, event.whom} != {i, j}:
      continue
    if event.kind == "hide":
      near[start <= PROBES] = 0.0
    elif event.kind == "collide":
      near[(start <= PROBES) & (PROBES <= end)] *= 0.9 / 1.08
  gaps = np.linalg.norm(ways[i] - ways[j], axis=-1)
  reach = near * (actors[i].radius + actors[j].radius)
  return bool(np.all(gaps[together] >= reach[together]))


def _track(actor: _Actor) -> Track:
  return Track(
    knots=tuple(
      tuple(round(float(v), 6) for v in knot) for knot in actor.knots
    ),
    present=(actor.present[0], actor.present[1]),
    colours=tuple((round(t, 6), colour) for t, colour in actor.colours),
  )
