"""Labels of patches against the pictures that they are of."""

import dataclasses

import numpy as np
import pytest

from synpo_jax.world import patches, rendering, scene, staging
from synpo_jax.world.scene import Facts, Scene, Thing, Track

NAMES = list(patches.VALUES)
GREY = scene.BACKGROUNDS["plain"][0]


def still(things, tracks, camera="static", background="plain"):
  tone = scene.BACKGROUNDS[background][0]
  facts = Facts(background, tone, camera, things)
  return Scene("x", 0, 8, 40, facts, tracks, (), tuple(range(len(things))))


def track(x, y, present=(0.0, 1.0), colours=((0.0, "red"),)):
  return Track(((0.0, x, y),), present, colours)


@pytest.fixture
def one():
  return still((Thing("square", "red", "large", "middle"),), (track(0.5, 0.5),))


def grid(labels, name):
  side = int(len(labels) ** 0.5)
  return labels[:, NAMES.index(name)].reshape(side, side)


def test_a_thing_fills_the_patches_it_covers(one):
  """A square of half-width 0.86 x 0.19 = 0.163 in the middle of 8 x 8 patches:
  0.3 of an outer patch's edge, and so less than a quarter of a corner."""
  shape = grid(patches.labels(one, 0.0, 8), "shape")
  wanted = np.zeros((8, 8), int)
  wanted[2:6, 3:5] = wanted[3:5, 2:6] = 1 + scene.SHAPES.index("square")
  np.testing.assert_array_equal(shape, wanted)


def test_each_label_names_what_is_there(one):
  found = patches.labels(one, 0.0, 8).reshape(8, 8, -1)[4, 4]
  said = dict(zip(NAMES, found.tolist(), strict=True))
  assert said == {
    "shape": 1 + scene.SHAPES.index("square"),
    "colour": 1 + list(scene.COLOURS).index("red"),
    "size": 1 + list(scene.RADIUS).index("large"),
    "column": 1 + patches.STRIPS // 2,
    "row": 1 + patches.STRIPS // 2,
    "ground": patches.GROUNDS.index(("plain", GREY)),
    "pan": 0,  # a plain wall shows no camera
    "zoom": 0,
  }


def test_what_is_away_has_no_patch_and_colours_change(one):
  gone = dataclasses.replace(one, tracks=(track(0.5, 0.5, (0.5, 1.0)),))
  assert not patches.labels(gone, 0.2, 8)[:, : len(patches.OF_THINGS)].any()
  turned = track(0.5, 0.5, colours=((0.0, "red"), (0.6, "blue")))
  later = patches.labels(dataclasses.replace(one, tracks=(turned,)), 0.7, 8)
  blue = 1 + list(scene.COLOURS).index("blue")
  assert set(np.unique(grid(later, "colour"))) == {0, blue}


def test_the_thing_in_front_counts():
  things = tuple(Thing(s, "red", "large", "middle") for s in ("circle", "ring"))
  both = still(things, (track(0.5, 0.5), track(0.5, 0.5)))
  shape = grid(patches.labels(both, 0.0, 16), "shape")
  circle, ring = (1 + scene.SHAPES.index(s) for s in ("circle", "ring"))
  assert shape[8, 8] == circle  # through the hole
  assert shape[8, 5] == ring
  behind = dataclasses.replace(both, layers=(1, 0))
  assert ring not in patches.labels(behind, 0.0, 16)[:, 0]


@pytest.mark.parametrize(
  ("camera", "pans", "zooms"),
  [
    ("pan left", [4, 2, 1], [1, 1, 1]),
    ("pan right", [4, 6, 7], [1, 1, 1]),
    ("zoom in", [4, 4, 4], [1, 3, 4]),
    ("zoom out", [4, 4, 4], [4, 2, 1]),
  ],
)
def test_the_camera_is_told_where_the_background_shows_it(camera, pans, zooms):
  clip = still((), (), camera, "field")
  clip = dataclasses.replace(
    clip,
    facts=dataclasses.replace(
      clip.facts, things=(Thing("star", "red", "small"),)
    ),
    tracks=(track(0.5, 0.5, (2.0, 2.0)),),
    layers=(0,),
  )
  found = [patches.labels(clip, t, 4) for t in (0.0, 0.51, 1.0)]
  assert [grid(one, "pan")[0, 0] for one in found] == pans
  assert [grid(one, "zoom")[0, 0] for one in found] == zooms


def test_labelled_patches_have_the_colour_that_is_painted():
  """On scenes as they are drawn, but for outlines and holes."""
  names, alike = list(scene.COLOURS), []
  for seed in range(8):
    clip = staging.sample(seed)
    colours = grid(patches.labels(clip, 0.0, 32), "colour")
    picture = rendering.picture(clip, 0.0, 96).astype(int)
    for y, x in zip(*np.nonzero(colours[1:-1, 1:-1]), strict=True):
      around = colours[y : y + 3, x : x + 3]
      if (around == around[1, 1]).all():
        paint = scene.COLOURS[names[around[1, 1] - 1]]
        there = picture[3 * y + 4, 3 * x + 4]
        alike.append(np.abs(there - paint).max() <= 1)
  assert len(alike) > 100 and np.mean(alike) > 0.95
