"""The synthetic world as pixels: what the scene graph says can be seen."""

import dataclasses
import hashlib
import math

import av
import numpy as np
import pytest

from synpo_jax.world import rendering, staging
from synpo_jax.world.scene import (
  COLOURS,
  DIRECTIONS,
  EVENTS,
  PAN,
  RADIUS,
  SHAPES,
  ZONES,
  ZOOM,
  Event,
  Facts,
  Scene,
  Thing,
  Track,
  colour_at,
  read_scenes,
  to_json,
  write_scenes,
)
from tests.support.clips import decoded

SEEDS = range(60)
NEAR = 40  # how far a pixel may be from a pure paint, per channel
SHARED = {"black", "white"}  # also the paint of outlines, clouds and stars


def hand_made(**changes) -> Scene:
  """A large red circle crossing a plain wall from left to right."""
  facts = Facts(
    "plain",
    "grey",
    "static",
    (Thing("circle", "red", "large", "middle left"),),
    (Event("move", 0, "right"),),
  )
  track = Track(((0.0, 0.2, 0.5), (1.0, 0.8, 0.5)), (0.0, 1.0), ((0.0, "red"),))
  scene = Scene("hand", 0, 10, 21, facts, (track,), ((0.0, 1.0),), (0,))
  facts = dataclasses.replace(facts, **changes)
  return dataclasses.replace(scene, facts=facts)


def painted(picture: np.ndarray, colour: str) -> np.ndarray:
  """Mask of the pixels that are nearly of a colour."""
  away = picture.astype(float) - np.array(COLOURS[colour])
  return np.abs(away).max(axis=-1) < NEAR


def centre(mask: np.ndarray) -> tuple[float, float]:
  rows, columns = np.nonzero(mask)
  return (columns.mean() + 0.5) / 96, (rows.mean() + 0.5) / 96


def eight(scene: Scene) -> list[np.ndarray]:
  """The frames that a captioner sees: eight, both ends included."""
  indices = np.linspace(0, scene.frames - 1, 8).astype(int)
  return [rendering.picture(scene, i / (scene.frames - 1)) for i in indices]


def test_a_circle_is_where_its_track_says():
  scene = hand_made()
  for t in (0.0, 0.25, 1.0):
    mask = painted(rendering.picture(scene, t), "red")
    x, y = centre(mask)
    assert abs(x - (0.2 + 0.6 * t)) < 0.005 and abs(y - 0.5) < 0.005
    inner = RADIUS["large"] - rendering.OUTLINE
    area = math.pi * (96 * inner) ** 2
    assert abs(mask.sum() - area) < 0.06 * area


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_fill_what_their_outline_encloses(shape):
  scene = hand_made(things=(Thing(shape, "red", "large", "middle left"),))
  mask = painted(rendering.picture(scene, 0.5), "red")
  area = mask.sum() / (96 * RADIUS["large"]) ** 2
  ring = math.pi * (1 - 0.4**2)
  star = 5 * 0.46 * math.sin(0.2 * math.pi)
  whole = {
    "circle": math.pi,
    "square": (2 * 0.86) ** 2,
    "triangle": 1.86**2 * 0.447 / 0.894,
    "ring": ring,
    "star": star,
  }[shape]
  assert 0.55 * whole < area < whole  # the outline takes some


def test_a_pan_to_the_right_shifts_the_picture_to_the_left():
  scene = hand_made(camera="pan right", background="stripes")
  first, last = (rendering.picture(scene, t)[0].mean(-1) for t in (0.0, 1.0))
  shift = round(PAN * 96)
  assert np.abs(first[shift:] - last[: 96 - shift]).mean() < 6
  x, _ = centre(painted(rendering.picture(scene, 1.0), "red"))
  assert abs(x - (0.8 - PAN)) < 0.01


def test_a_zoom_enlarges_by_the_square_of_its_ratio():
  scene = hand_made(camera="zoom in", things=hand_made().facts.things)
  still = Track(((0.0, 0.5, 0.5),), (0.0, 1.0), ((0.0, "red"),))
  scene = dataclasses.replace(scene, tracks=(still,))
  small, large = (
    painted(rendering.picture(scene, t), "red").sum() for t in (0.0, 1.0)
  )
  assert abs(large / small / ZOOM**2 - 1) < 0.06


def test_every_event_can_be_seen_in_eight_frames():
  seen = {kind: 0 for kind in EVENTS}
  for seed in SEEDS:
    scene = staging.sample(seed)
    pictures = eight(scene)
    for index, event in enumerate(scene.facts.events):
      colour = colour_at(scene.facts, event.who, index)
      if {colour, event.where} & SHARED:
        continue
      counts = [painted(picture, colour).sum() for picture in pictures]
      seen[event.kind] += 1
      if event.kind == "enter":
        assert counts[0] == 0 and max(counts) > 25, (seed, event)
      elif event.kind in ("leave", "hide"):
        assert counts[-1] <= 4 and max(counts) > 25, (seed, event)
      elif event.kind == "colour":
        after = [painted(picture, event.where).sum() for picture in pictures]
        assert after[0] == 0 and max(after) > 25, (seed, event)
  assert all(count > 3 for count in seen.values())


def test_moves_go_the_way_they_are_told():
  for seed in SEEDS:
    scene = staging.sample(seed)
    for index, event in enumerate(scene.facts.events):
      if event.kind != "move" or scene.facts.camera != "static":
        continue
      colour = colour_at(scene.facts, event.who, index)
      if colour in SHARED:
        continue
      masks = [
        painted(rendering.picture(scene, t), colour) for t in scene.spans[index]
      ]
      before, after = (np.array(centre(mask)) for mask in masks)
      way = np.array(DIRECTIONS[event.where])
      assert np.array_equal(np.sign(np.round(after - before, 1)), way), seed


def test_things_start_in_their_zones_and_stay_in_sight():
  for seed in SEEDS:
    scene = staging.sample(seed)
    first = rendering.picture(scene, 0.0)
    for thing in scene.facts.things:
      if thing.colour in SHARED:
        continue
      mask = painted(first, thing.colour)
      if thing.zone is None:
        assert mask.sum() == 0
        continue
      away = np.subtract(centre(mask), ZONES[thing.zone])
      assert np.abs(away).max() < 0.13, (seed, thing)


def test_nothing_meets_unless_an_event_says_so():
  for seed in SEEDS:
    scene = staging.sample(seed)
    meetings = {
      frozenset((event.who, event.whom)) for event in scene.facts.events
    }
    radii = [RADIUS[thing.size] for thing in scene.facts.things]
    for t in np.linspace(0, 1, 30):
      for i, a in enumerate(scene.tracks):
        for j, b in enumerate(scene.tracks[:i]):
          there = all(k.present[0] <= t <= k.present[1] for k in (a, b))
          if there and frozenset((i, j)) not in meetings:
            gap = math.dist(rendering.place(a, t), rendering.place(b, t))
            assert gap > radii[i] + radii[j], seed


def test_the_same_seed_gives_the_same_bytes(tmp_path):
  digests = []
  for name in ("one.mp4", "two.mp4"):
    rendering.backdrop.cache_clear()
    rendering.encode(tmp_path / name, staging.sample(11))
    digests.append(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
  assert digests[0] == digests[1]
  assert staging.sample(11) != staging.sample(12)


def test_the_vector_unit_changes_no_pixel(tmp_path, monkeypatch):
  def pixels():
    rendering.encode(tmp_path / "a.mp4", staging.sample(3))
    with av.open(str(tmp_path / "a.mp4")) as container:
      frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    return np.stack(frames)

  here = pixels()
  monkeypatch.setitem(rendering.CODEC, "x264-params", "asm=0")
  np.testing.assert_array_equal(here, pixels())


def test_clips_decode_to_what_was_painted(tmp_path):
  scene = staging.sample(5)
  rendering.encode(tmp_path / "clip.mp4", scene)
  frames = decoded(tmp_path / "clip.mp4")
  assert frames.shape == (scene.frames, 96, 96, 3)
  # 4:2:0 chroma blurs edges: 1.6 grey levels on average, a shifted frame 4+.
  assert np.abs(frames.astype(float) - rendering.frames(scene)).mean() < 3.0
  with av.open(str(tmp_path / "clip.mp4")) as container:
    stream = container.streams.video[0]
    assert stream.codec_context.name == "h264"
    assert stream.average_rate == scene.fps
    assert 3.9 <= float(stream.duration * stream.time_base) <= 8.1


def test_scenes_survive_json(tmp_path):
  scenes = [staging.sample(seed) for seed in range(5)]
  write_scenes(str(tmp_path / "scenes.jsonl"), scenes)
  assert list(read_scenes(str(tmp_path / "scenes.jsonl")).values()) == (scenes)


def test_a_bad_scene_line_is_named(tmp_path):
  path = tmp_path / "scenes.jsonl"
  path.write_text(to_json(staging.sample(0)) + '\n{"video": "x"}\n')
  with pytest.raises(ValueError, match=r"scenes.jsonl:2: not a scene"):
    read_scenes(str(path))
