"""What each patch of a picture shows: exact labels for a vision tower.

A patch that a thing covers by a quarter at least shows that thing, in front
of all; the rest shows the background. Every patch shows where the camera
looks, as far as its background tells.
"""

import numpy as np
from jaxtyping import Bool, Int8

from synpo_jax.world import rendering
from synpo_jax.world.scene import (
  BACKGROUNDS,
  COLOURS,
  PAN,
  RADIUS,
  SHAPES,
  ZOOM,
  Scene,
  camera_at,
  to_screen,
)

STRIPS = 12  # columns and rows that the middle of a thing lies in
PANS, ZOOMS = 7, 4  # places and scales of the camera that are told apart
PROBES = 4  # points of a patch, both ways, that decide what it shows
GROUNDS = [(kind, tone) for kind in BACKGROUNDS for tone in BACKGROUNDS[kind]]
# Label -> its number of values. 0 is "no thing here"; of pan and zoom, "this
# background cannot show it".
VALUES = {
  "shape": 1 + len(SHAPES),
  "colour": 1 + len(COLOURS),
  "size": 1 + len(RADIUS),
  "column": 1 + STRIPS,
  "row": 1 + STRIPS,
  "ground": len(GROUNDS),
  "pan": 1 + PANS,
  "zoom": 1 + ZOOMS,
}
OF_THINGS = ("shape", "colour", "size", "column", "row")


def labels(scene: Scene, t: float, side: int) -> Int8[np.ndarray, "P 8"]:
  """Labels of a picture's side x side patches, in the order of VALUES.

  Args:
    scene: the clip's scene graph.
    t: the moment of the picture, 0 to 1.
    side: patches on an edge; P is its square, in the order of reading.
  """
  found = np.zeros((side, side, len(VALUES)), np.int8)
  shown = _shown(scene, t, side)
  covered = np.stack([np.sum(shown == i, axis=-1) for i in _things(scene)], -1)
  first = covered.argmax(axis=-1)
  seen = covered.max(axis=-1) >= PROBES**2 // 4
  for index in _things(scene):
    found[seen & (first == index), : len(OF_THINGS)] = _thing(scene, index, t)
  found[..., len(OF_THINGS) :] = _view(scene, t)
  return found.reshape(side**2, -1)


def _things(scene: Scene) -> range:
  return range(len(scene.facts.things))


def _shown(scene: Scene, t: float, side: int):
  """The thing in front at every probe [side, side, PROBES^2]; -1: none."""
  probes = (np.arange(side * PROBES) + 0.5) / (side * PROBES)
  front = np.full((len(probes),) * 2, -1)
  for index in scene.layers:
    if _is_there(scene, index, t):
      front[_covers(scene, index, t, probes)] = index
  grid = front.reshape(side, PROBES, side, PROBES).swapaxes(1, 2)
  return grid.reshape(side, side, -1)


def _is_there(scene: Scene, index: int, t: float) -> bool:
  first, last = scene.tracks[index].present
  return first <= t <= last


def _covers(scene, index, t, probes) -> Bool[np.ndarray, "Y X"]:
  thing = scene.facts.things[index]
  x, y = _middle(scene, index, t)
  radius = RADIUS[thing.size] * camera_at(scene.facts.camera, t)[1]
  across, down = (probes - x) / radius, (probes - y) / radius
  return rendering.OUTSIDE[thing.shape](across[None, :], down[:, None]) <= 0


def _middle(scene, index, t) -> tuple[float, float]:
  place = rendering.place(scene.tracks[index], t)
  return to_screen(scene.facts.camera, t, *place)


def _thing(scene: Scene, index: int, t: float) -> tuple[int, ...]:
  thing = scene.facts.things[index]
  colour = rendering.colour(scene.tracks[index], t)
  strips = np.clip(np.multiply(_middle(scene, index, t), STRIPS), 0, STRIPS - 1)
  return (
    1 + SHAPES.index(thing.shape),
    1 + list(COLOURS).index(colour),
    1 + list(RADIUS).index(thing.size),
    *(1 + int(strip) for strip in strips),
  )


def _view(scene: Scene, t: float) -> tuple[int, int, int]:
  """Background, pan and zoom of the moment."""
  facts = scene.facts
  ground = GROUNDS.index((facts.background, facts.tone))
  if facts.background == "plain":
    return ground, 0, 0
  centre, scale = camera_at(facts.camera, t)
  pan = round(((centre - 0.5) / PAN + 1) / 2 * (PANS - 1))
  zoom = round((scale - 1) / (ZOOM - 1) * (ZOOMS - 1))
  return ground, 1 + pan, 1 + zoom
