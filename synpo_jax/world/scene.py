"""The scene graph of the synthetic world: who is there, what happens, when.

`Facts` is what a caption can say about a clip: background, camera, things
and events in order. It is told by `telling`, read back from free text by
`reading` and compared by `truth`. A `Scene` adds what only the renderer
needs: where everything is at every moment. Time runs from 0 to 1 over the
clip; places are in units of the picture's edge, y pointing down.
"""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from synpo_jax.runtime import buckets

SHAPES = ("circle", "square", "triangle", "star", "ring")
COLOURS = {
  "red": (225, 30, 35),
  "orange": (255, 145, 10),
  "yellow": (250, 225, 40),
  "green": (20, 160, 60),
  "blue": (30, 80, 220),
  "purple": (140, 45, 175),
  "white": (250, 250, 250),
  "black": (15, 15, 15),
}
RADIUS = {"large": 0.19, "small": 0.12}
BACKGROUNDS = {
  "plain": ("grey", "brown"),
  "stripes": ("grey", "brown"),
  "checks": ("grey", "brown"),
  "field": ("sunny", "cloudy"),
  "night": ("moon", "stars"),
}
CAMERAS = ("static", "pan left", "pan right", "zoom in", "zoom out")
PAN, ZOOM = 0.25, 1.35  # shift in picture widths, ratio of scales
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
DIRECTIONS = {
  **STEPS,
  "up left": (-1, -1),
  "up right": (1, -1),
  "down left": (-1, 1),
  "down right": (1, 1),
}
SIDES = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
COLUMNS = {"left": 0.2, "middle": 0.5, "right": 0.8}
ROWS = {"top": 0.2, "middle": 0.5, "bottom": 0.8}
ZONES = {  # name -> centre, in the order of reading
  ("middle" if row == column else f"{row} {column}"): (x, y)
  for row, y in ROWS.items()
  for column, x in COLUMNS.items()
}
COVERS = ("circle", "square")  # a large one hides a small thing wholly
# Kinds of events and how long each takes, relative to a plain move.
EVENTS = {
  "move": 1.0,
  "enter": 1.0,
  "leave": 1.0,
  "turn": 1.6,
  "colour": 0.8,
  "collide": 1.5,
  "hide": 1.2,
}


@dataclasses.dataclass(frozen=True)
class Thing:
  """An object; `zone` is its place in the first picture, if it is there."""

  shape: str | None
  colour: str | None = None
  size: str | None = None
  zone: str | None = None


@dataclasses.dataclass(frozen=True)
class Event:
  """`who` and `whom` index the things; `where` is a direction, side, colour."""

  kind: str
  who: int
  where: str | None = None
  whom: int | None = None


@dataclasses.dataclass(frozen=True)
class Facts:
  """What is said about a clip; None and empty tuples where nothing is."""

  background: str | None = None
  tone: str | None = None
  camera: str | None = None
  things: tuple[Thing, ...] = ()
  events: tuple[Event, ...] = ()
  still: tuple[int, ...] = ()  # things said to stay where they are


@dataclasses.dataclass(frozen=True)
class Track:
  """One thing's way: knots (t, x, y), when it is there, its colours."""

  knots: tuple[tuple[float, float, float], ...]
  present: tuple[float, float]
  colours: tuple[tuple[float, str], ...]  # (from this moment on, this one)


@dataclasses.dataclass(frozen=True)
class Scene:
  """Facts and geometry of one clip; tracks are in the order of things."""

  video: str  # the id: the stem of the file
  seed: int
  fps: int
  frames: int
  facts: Facts
  tracks: tuple[Track, ...]
  spans: tuple[tuple[float, float], ...]  # of the events, in order
  layers: tuple[int, ...]  # things from back to front


Real = float | Float[np.ndarray, "T"]  # one moment or many


def camera_at(camera: str, t: Real) -> tuple[Real, Real]:
  """(x of the view's centre, scale) at moment t, in world units."""
  shift = {"pan left": -PAN, "pan right": PAN}
  if camera in shift:
    return 0.5 + shift[camera] * t, 1.0
  if camera == "zoom in":
    return 0.5, 1.0 + (ZOOM - 1.0) * t
  if camera == "zoom out":
    return 0.5, ZOOM - (ZOOM - 1.0) * t
  return 0.5, 1.0


def to_screen(camera: str, t: Real, x: Real, y: Real) -> tuple[Real, Real]:
  """World place -> place in the picture at moment t."""
  centre, scale = camera_at(camera, t)
  return (x - centre) * scale + 0.5, (y - 0.5) * scale + 0.5


def to_world(camera: str, t: float, x: float, y: float) -> tuple[float, float]:
  """Place in the picture at moment t -> world place."""
  centre, scale = camera_at(camera, t)
  return (x - 0.5) / scale + centre, (y - 0.5) / scale + 0.5


def colour_at(facts: Facts, who: int, event: int) -> str | None:
  """The thing's colour when the event of that index begins."""
  colour = facts.things[who].colour
  for told in facts.events[:event]:
    if told.kind == "colour" and told.who == who:
      colour = told.where
  return colour


def main_thing(facts: Facts) -> int:
  """Index of the thing that does most; the earliest told wins ties."""
  if not facts.things:
    raise ValueError("a clip without things has no main one")
  doings = [0] * len(facts.things)
  for event in facts.events:
    doings[event.who] += 1
  return doings.index(max(doings))


def to_json(scene: Scene) -> str:
  """One line; `from_json` gives back an equal scene."""
  return json.dumps(dataclasses.asdict(scene), separators=(",", ":"))


def from_json(line: str) -> Scene:
  """Inverse of `to_json`. Raises ValueError naming what is missing."""
  row = json.loads(line)
  try:
    facts = row["facts"]
    return Scene(
      **{k: row[k] for k in ("video", "seed", "fps", "frames")},
      facts=Facts(
        **{k: facts[k] for k in ("background", "tone", "camera")},
        things=tuple(Thing(**thing) for thing in facts["things"]),
        events=tuple(Event(**event) for event in facts["events"]),
        still=tuple(facts["still"]),
      ),
      tracks=tuple(
        Track(**{k: _frozen(v) for k, v in track.items()})
        for track in row["tracks"]
      ),
      spans=_frozen(row["spans"]),
      layers=_frozen(row["layers"]),
    )
  except (KeyError, TypeError) as error:
    raise ValueError(f"not a scene of this world: {error}") from error


def _frozen(value: Any) -> Any:
  if isinstance(value, list):
    return tuple(_frozen(item) for item in value)
  return value


def read_scenes(path: str) -> dict[str, Scene]:
  """scenes.jsonl -> video id -> scene. Bad lines are named by number."""
  scenes = {}
  with buckets.at(path).open(encoding="utf-8") as lines:
    for number, line in enumerate(lines, 1):
      try:
        scene = from_json(line)
      except ValueError as error:
        raise ValueError(f"{path}:{number}: {error}") from error
      scenes[scene.video] = scene
  return scenes


def write_scenes(path: str, scenes: Iterable[Scene]) -> None:
  """Writes one line per scene, sorted by video id."""
  with open(path, "w", encoding="utf-8") as file:
    for scene in sorted(scenes, key=lambda scene: scene.video):
      file.write(to_json(scene) + "\n")
