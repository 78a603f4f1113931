"""Draws a scene of the synthetic world from a seed.

Events happen one after the other, so that their order can be seen in eight
frames. A draw whose paths leave the picture or cross each other by accident
is thrown away and the next one tried, from the same stream of numbers.
"""

import dataclasses

import numpy as np

from synpo_jax.world import motion, scene
from synpo_jax.world.chance import pick
from synpo_jax.world.scene import Event, Facts, Scene, Thing

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
  "hide": 24,
}


@dataclasses.dataclass(frozen=True)
class _Plan:
  """What is settled first, so that hard scenes are no rarer than easy ones."""

  background: str
  tone: str
  camera: str
  things: int
  events: int
  hides: bool  # rarely fits, so it is asked for


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
    for _ in range(1500):
      if (drawn := _attempt(rng, plan, seed, name)) is not None:
        return drawn
  raise ValueError(f"seed {seed}: no scene found that can be seen clearly")


def _plan(rng: np.random.Generator) -> _Plan:
  background = pick(rng, list(scene.BACKGROUNDS))
  tone = pick(rng, scene.BACKGROUNDS[background])
  camera = pick(rng, scene.CAMERAS)
  if background == "plain":  # nothing there would show the camera move
    camera = "static"
  things = int(rng.choice([1, 2, 3], p=[0.25, 0.45, 0.3]))
  events = int(rng.integers(1, 3 if things == 3 else 4))
  hides = things > 1 and rng.random() < 0.1
  return _Plan(background, tone, camera, things, events, hides)


def _attempt(rng, plan: _Plan, seed: int, video: str) -> Scene | None:
  things = _cast(rng, plan.things, plan.background)
  palette = _free_colours(things, plan.background)
  events = _plot(rng, plan.events, things, palette)
  if events is None:
    return None
  if plan.hides and all(event.kind != "hide" for event in events):
    return None
  spans = _timetable(events)
  tracks = motion.lay_out(rng, plan.camera, things, events, spans)
  if tracks is None:
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
    tracks=tracks,
    spans=spans,
    layers=_layers(len(things), events),
  )


def _cast(rng, count: int, background: str) -> tuple[Thing, ...]:
  """Things unlike each other in shape and colour, in the order of telling."""
  colours = [c for c in scene.COLOURS if c not in CLASHES[background]]
  shapes = rng.permutation(scene.SHAPES)[:count]
  colours = rng.permutation(colours)[:count]
  zones = rng.permutation(list(scene.ZONES))[:count]
  cast = []
  for shape, colour, zone in zip(shapes, colours, zones, strict=True):
    size = pick(rng, ("large", "small"))
    there = rng.random() < 0.75
    place = str(zone) if there else None
    cast.append(Thing(str(shape), str(colour), size, place))
  return tuple(sorted(cast, key=telling_order))


def telling_order(thing: Thing) -> tuple[int, int, int]:
  """Things there from the start first; large before small; reading order."""
  zones = list(scene.ZONES)
  late = thing.zone is None
  place = len(zones) if late else zones.index(thing.zone)
  return int(late), int(thing.size != "large"), place


def _free_colours(things, background) -> list[str]:
  used = {thing.colour for thing in things} | set(CLASHES[background])
  return [colour for colour in scene.COLOURS if colour not in used]


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
      events.append(Event("enter", who, pick(rng, list(scene.SIDES))))
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
  who = pick(rng, able)
  others = [i for i in able if i != who]
  covers = [i for i in others if _covers(things[i])]
  kinds = dict(LIKELY)
  if not others:
    del kinds["collide"]
  if things[who].size == "large" or not covers:
    del kinds["hide"]
  weights = np.array(list(kinds.values()), float)
  kind = list(kinds)[int(rng.choice(len(kinds), p=weights / weights.sum()))]
  where, whom = None, None
  if kind in ("move", "turn"):
    where = pick(rng, list(scene.DIRECTIONS if kind == "move" else scene.STEPS))
  elif kind == "leave":
    where, state[who] = pick(rng, list(scene.SIDES)), "done"
  elif kind == "colour":
    if not palette:
      return None
    where = palette.pop(int(rng.integers(len(palette))))
  elif kind == "collide":
    whom = pick(rng, others)
  elif kind == "hide":
    whom = pick(rng, covers)
    state[who] = state[whom] = "done"
  event = Event(kind, who, where, whom)
  same = events and (events[-1].kind, events[-1].who) == (kind, who)
  return None if same else event


def _covers(thing: Thing) -> bool:
  return thing.size == "large" and thing.shape in scene.COVERS


def _timetable(events) -> tuple[tuple[float, float], ...]:
  lengths = [scene.EVENTS[event.kind] for event in events]
  total = 2 * REST + sum(lengths) + BREATH * (len(events) - 1)
  start, spans = REST, []
  for length in lengths:
    spans.append((round(start / total, 6), round((start + length) / total, 6)))
    start += length + BREATH
  return tuple(spans)


def _layers(count: int, events) -> tuple[int, ...]:
  """Back to front: those who hide come first."""
  hiders = [e.who for e in events if e.kind == "hide"]
  return tuple(hiders + [i for i in range(count) if i not in hiders])
