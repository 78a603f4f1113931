"""Draws a scene of the synthetic world from a seed.

Events happen one after the other, so that their order can be seen in eight
frames. A draw whose paths leave the picture or cross each other by accident
is thrown away and the next one tried, from the same stream of numbers.
"""

import dataclasses
import itertools

import numpy as np

from synpo_jax.data import scene as graph
from synpo_jax.data.scene import Event, Facts, Scene, Thing, Track

REST = 0.35  # before the first and after the last event, in moves
BREATH = 0.12  # between two events
CLASHES = {  # colours that drown in a background
  "field": ("green", "blue"),
  "night": ("black", "blue", "purple"),
  "stripes": (),
  "checks": (),
  "plain": (),
}
LIKELY = {  # before the draws that do not fit are thrown away
  "move": 8,
  "turn": 5,
  "leave": 2,
  "colour": 2,
  "collide": 6,
  "hide": 8,
}
PROBES = np.linspace(0.0, 1.0, 49)  # moments at which a draw is checked


@dataclasses.dataclass
class _Actor:
  """A thing while its way is being laid out."""

  radius: float
  knots: list[tuple[float, float, float]]
  present: list[float]
  colours: list[tuple[float, str]]
  state: str  # "in", "out" (not yet there), "done" (no more events)


@dataclasses.dataclass(frozen=True)
class _Plan:
  """What is settled first, so that hard scenes are no rarer than easy ones."""

  background: str
  tone: str
  camera: str
  things: int
  events: int


def sample(seed: int, video: str | None = None) -> Scene:
  """The scene of a seed, the same on every machine.

  Args:
    seed: any non-negative integer.
    video: the clip's id; `shapes-00000042` for seed 42 when not given.
  """
  rng = np.random.default_rng([int(seed), 20250606])
  name = f"shapes-{seed:08d}" if video is None else video
  for _ in range(20):
    plan = _plan(rng)
    for _ in range(400):
      scene = _attempt(rng, plan, seed, name)
      if scene is not None:
        return scene
  raise ValueError(f"seed {seed}: no scene found that can be seen clearly")


def _plan(rng: np.random.Generator) -> _Plan:
  background = _pick(rng, list(graph.BACKGROUNDS))
  tone = _pick(rng, graph.BACKGROUNDS[background])
  camera = _pick(rng, graph.CAMERAS)
  if background == "plain":  # nothing there would show the camera move
    camera = "static"
  things = int(rng.choice([1, 2, 3], p=[0.25, 0.45, 0.3]))
  events = int(rng.integers(1, 4 if things == 3 else 5))
  return _Plan(background, tone, camera, things, events)


def _attempt(rng, plan: _Plan, seed: int, video: str) -> Scene | None:
  things = _cast(rng, plan.things, plan.background)
  palette = _free_colours(things, plan.background)
  events = _plot(rng, plan.events, things, palette)
  if events is None:
    return None
  spans = _timetable(events)
  actors = _lay_out(rng, plan.camera, things, events, spans)
  if actors is None or not _clear(plan.camera, actors, events, spans):
    return None
  busy = {e.who for e in events} | {e.whom for e in events}
  still = tuple(i for i in range(len(things)) if i not in busy)
  fps = int(rng.integers(6, 13))
  return Scene(
    video=video,
    seed=int(seed),
    fps=fps,
    frames=int(round(fps * rng.uniform(4.0, 8.0))),
    facts=Facts(plan.background, plan.tone, plan.camera, things, events, still),
    tracks=tuple(_track(actor) for actor in actors),
    spans=spans,
    layers=_layers(len(things), events),
  )


def _pick(rng, options):
  return options[int(rng.integers(len(options)))]


def _cast(rng, count: int, background: str) -> tuple[Thing, ...]:
  """Things unlike each other in shape and colour, in the order of telling."""
  colours = [c for c in graph.COLOURS if c not in CLASHES[background]]
  shapes = rng.permutation(graph.SHAPES)[:count]
  colours = rng.permutation(colours)[:count]
  zones = rng.permutation(list(graph.ZONES))[:count]
  cast = []
  for shape, colour, zone in zip(shapes, colours, zones, strict=True):
    size = _pick(rng, ("large", "small"))
    there = rng.random() < 0.75
    place = str(zone) if there else None
    cast.append(Thing(str(shape), str(colour), size, place))
  return tuple(sorted(cast, key=telling_order))


def telling_order(thing: Thing) -> tuple[int, int, int]:
  """Things there from the start first; large before small; reading order."""
  zones = list(graph.ZONES)
  late = thing.zone is None
  place = len(zones) if late else zones.index(thing.zone)
  return int(late), int(thing.size != "large"), place


def _free_colours(things, background) -> list[str]:
  used = {thing.colour for thing in things} | set(CLASHES[background])
  return [colour for colour in graph.COLOURS if colour not in used]


def _plot(rng, count, things, palette) -> tuple[Event, ...] | None:
  """One to four events in order, or None when the draw leads nowhere."""
  late = [i for i, thing in enumerate(things) if thing.zone is None]
  if len(late) > count:
    return None
  state = ["out" if i in late else "in" for i in range(len(things))]
  entries = set(rng.permutation(count)[: len(late)].tolist())
  if len(late) == len(things):  # an empty scene opens with an entry
    entries = {0, *sorted(entries)[1:]}
  events: list[Event] = []
  for step in range(count):
    if step in entries:
      who = late.pop(0)
      state[who] = "in"
      events.append(Event("enter", who, _pick(rng, list(graph.SIDES))))
      continue
    event = _next(rng, things, palette, state, events)
    if event is None:
      return None
    events.append(event)
  return tuple(events)


def _next(rng, things, palette, state, events) -> Event | None:
  able = [i for i, s in enumerate(state) if s == "in"]
  if not able:
    return None
  who = _pick(rng, able)
  others = [i for i in able if i != who]
  covers = [i for i in others if things[i].size == "large"]
  kinds = dict(LIKELY)
  if not others:
    del kinds["collide"]
  if things[who].size == "large" or not covers:
    del kinds["hide"]
  weights = np.array(list(kinds.values()), float)
  kind = list(kinds)[int(rng.choice(len(kinds), p=weights / weights.sum()))]
  where, whom = None, None
  if kind in ("move", "turn"):
    where = _pick(
      rng, list(graph.DIRECTIONS if kind == "move" else graph.STEPS)
    )
  elif kind == "leave":
    where, state[who] = _pick(rng, list(graph.SIDES)), "done"
  elif kind == "colour":
    where = palette.pop(int(rng.integers(len(palette))))
  elif kind == "collide":
    whom = _pick(rng, others)
  elif kind == "hide":
    whom = _pick(rng, covers)
    state[who] = state[whom] = "done"
  event = Event(kind, who, where, whom)
  same = events and (events[-1].kind, events[-1].who) == (kind, who)
  return None if same else event


def _timetable(events) -> tuple[tuple[float, float], ...]:
  lengths = [graph.EVENTS[event.kind] for event in events]
  total = 2 * REST + sum(lengths) + BREATH * (len(events) - 1)
  start, spans = REST, []
  for length in lengths:
    spans.append((round(start / total, 6), round((start + length) / total, 6)))
    start += length + BREATH
  return tuple(spans)


def _lay_out(rng, camera, things, events, spans) -> list[_Actor] | None:
  actors = []
  for thing in things:
    actor = _Actor(
      graph.RADIUS[thing.size], [], [0.0, 1.0], [(0.0, thing.colour)], "out"
    )
    if thing.zone is not None:
      x, y = graph.ZONES[thing.zone]
      dx, dy = rng.uniform(-0.06, 0.06, 2)
      actor.knots.append((0.0, *graph.to_world(camera, 0.0, x + dx, y + dy)))
    actors.append(actor)
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
  return actors


def _place(actor: _Actor, t: float) -> tuple[float, float]:
  times, xs, ys = zip(*actor.knots, strict=True)
  return float(np.interp(t, times, xs)), float(np.interp(t, times, ys))


def _hold(actor: _Actor, t: float) -> None:
  actor.knots.append((t, *_place(actor, t)))


def _walk(rng, actor, event, start, end) -> None:
  """A move, or (turn) a move and the way back."""
  _hold(actor, start)
  dx, dy = graph.DIRECTIONS[event.where]
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
  dx, dy = graph.SIDES[side]
  lane, depth = rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.6)
  margin = actor.radius * graph.camera_at(camera, start)[1]
  edge = (1.0 + margin) if dx + dy > 0 else -margin
  deep = 1.0 - depth if dx + dy > 0 else depth
  outside = (edge, lane) if dx else (lane, edge)
  inside = (deep, lane) if dx else (lane, deep)
  from_ = graph.to_world(camera, start, *outside)
  to = graph.to_world(camera, start, *inside)
  actor.knots += [(start, *from_), (end, *to)]
  actor.present[0] = start


def _leave(camera, actor, side, start, end) -> None:
  """Straight on, until it is just outside the picture."""
  _hold(actor, start)
  dx, dy = graph.SIDES[side]
  margin = actor.radius * graph.camera_at(camera, end)[1]
  edge = (1.0 + margin) if dx + dy > 0 else -margin
  outside = graph.to_world(camera, end, edge, edge)
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


def _clear(camera, actors, events, spans) -> bool:
  """Whether everything stays in sight and nothing overlaps by accident."""
  crossing = {
    (e.who, s)
    for e, s in zip(events, spans, strict=True)
    if e.kind in ("enter", "leave")
  }
  if not all(
    _plain(camera, actors[e.who], e, *span)
    for e, span in zip(events, spans, strict=True)
  ):
    return False
  for t in PROBES:
    seen = [i for i, a in enumerate(actors) if _there(a, t)]
    for i in seen:
      x, y = graph.to_screen(camera, t, *_place(actors[i], t))
      passing = any(w == i and a <= t <= b for w, (a, b) in crossing)
      edge = 0.45 * actors[i].radius * graph.camera_at(camera, t)[1]
      if not passing and not edge <= min(x, y) <= max(x, y) <= 1 - edge:
        return False
    for i, j in itertools.combinations(seen, 2):
      if not _apart(actors, i, j, t, events, spans):
        return False
  return True


def _plain(camera, actor, event, start, end) -> bool:
  """Whether a move still looks like one while the camera moves too."""
  if event.kind not in ("move", "turn"):
    return True
  until = end if event.kind == "move" else 0.5 * (start + end)
  before = graph.to_screen(camera, start, *_place(actor, start))
  after = graph.to_screen(camera, until, *_place(actor, until))
  steps = zip(before, after, graph.DIRECTIONS[event.where], strict=True)
  return all(d * (b - a) >= 0.2 * abs(d) for a, b, d in steps)


def _there(actor: _Actor, t: float) -> bool:
  return actor.present[0] <= t <= actor.present[1]


def _apart(actors, i, j, t, events, spans) -> bool:
  """Distance rule for a pair; meeting is allowed where an event says so."""
  near = 1.08
  for event, (start, end) in zip(events, spans, strict=True):
    if {event.who, event.whom} != {i, j}:
      continue
    if event.kind == "hide" and t >= start:
      return True
    if event.kind == "collide" and start <= t <= end:
      near = 0.9
  gap = np.subtract(_place(actors[i], t), _place(actors[j], t))
  reach = actors[i].radius + actors[j].radius
  return float(np.linalg.norm(gap)) >= near * reach


def _layers(count: int, events) -> tuple[int, ...]:
  """Back to front: those who hide come first."""
  hiders = [e.who for e in events if e.kind == "hide"]
  return tuple(hiders + [i for i in range(count) if i not in hiders])


def _track(actor: _Actor) -> Track:
  return Track(
    knots=tuple(tuple(round(v, 6) for v in knot) for knot in actor.knots),
    present=(actor.present[0], actor.present[1]),
    colours=tuple((round(t, 6), colour) for t, colour in actor.colours),
  )
