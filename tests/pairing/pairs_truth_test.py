from pathlib import PurePosixPath

import numpy as np
import pytest

from synpo_jax import make_pairs
from synpo_jax.generation.shots import Captioned, Text
from synpo_jax.runtime import journal
from synpo_jax.world import scene, spoiling, staging, telling
from tests.support import fake_pairs


@pytest.fixture(scope="module")
def world(tmp_path_factory):
  """Scenes with stand-in clips, and captions true, spoilt, empty."""
  root = tmp_path_factory.mktemp("world")
  scenes = [staging.sample(seed) for seed in range(4)]
  scene.write_scenes(str(root / "scenes.jsonl"), scenes)
  captions = {}
  for graph in scenes:
    fake_pairs.clip(root / f"{graph.video}.mp4", 20, 90)
    rng = np.random.default_rng(graph.seed)
    once = spoiling.spoil(graph.facts, rng, "attribute")
    twice = spoiling.spoil(once, rng, "attribute") or once
    told = [telling.tell(facts, rng) for facts in (once, graph.facts, twice)]
    captions[graph.video] = [*told, "  "]
  return root, captions


class Knowing(fake_pairs.Writer):
  """Says what it was given, by the video's name."""

  def __init__(self, captions):
    self.captions = captions

  def write(self, shots, ask):
    for shot in shots:
      known = self.captions[PurePosixPath(shot.id).stem][: ask.candidates]
      texts = [Text(text, text, 9) for text in known]
      yield Captioned(shot.id, shot.part, texts)


def open_writer(captions):
  return lambda placing, **model: Knowing(captions)


def config(root):
  c = fake_pairs.config(root)
  c.judge.kind = "truth"
  c.judge.truth.scenes = str(root / "scenes.jsonl")
  return c


def test_the_truth_chooses_the_true_caption(world, tmp_path):
  root, captions = world
  summary = make_pairs.run(config(root), tmp_path, open_writer(captions))
  assert summary["pairs"] == len(captions)
  assert summary["excluded"] == {"empty caption": len(captions)}
  assert summary["judge"]["calls"] == 0
  for row in journal.read(tmp_path / "pairs.jsonl").values():
    known = captions[PurePosixPath(row["video"]).stem]
    assert row["chosen"] == known[1]
    assert row["rejected"] in (known[0], known[2])
    assert row["provenance"]["judge"]["kind"] == "truth"
    assert row["provenance"]["scores"]["factuality"][1] == 5.0
    assert row["provenance"]["scores"]["total"][3] is None


def test_scenes_that_changed_since_are_refused(world, tmp_path):
  root, captions = world
  c, scenes = config(root), tmp_path / "scenes.jsonl"
  scenes.write_text((root / "scenes.jsonl").read_text())
  c.judge.truth.scenes = str(scenes)
  make_pairs.run(c, tmp_path / "run", open_writer(captions))
  c.stages = "judge,pairs"
  kept = make_pairs.run(c, tmp_path / "run", open_writer(captions))
  with scenes.open("a") as file:
    file.write(scenes.read_text().splitlines()[0] + "\n")
  said = f"{scenes}: these are not the scenes that .*judgements.jsonl was judg"
  with pytest.raises(ValueError, match=said):
    make_pairs.run(c, tmp_path / "run", open_writer(captions))
  assert kept["pairs"] == len(captions)


def test_a_video_without_a_scene_is_named(world, tmp_path):
  root, captions = world
  c = config(root)
  scene.write_scenes(str(tmp_path / "none.jsonl"), [])
  c.judge.truth.scenes = str(tmp_path / "none.jsonl")
  with pytest.raises(ValueError, match="there is no scene"):
    make_pairs.run(c, tmp_path / "run", open_writer(captions))


def test_an_unknown_judge_is_refused(world, tmp_path):
  c = config(world[0])
  c.judge.kind = "oracle"
  with pytest.raises(ValueError, match="judge.kind='oracle'"):
    make_pairs.run(c, tmp_path, open_writer(world[1]))
