"""Other weights under the same name are other weights."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from synpo_jax import make_pairs
from synpo_jax.weights import fingerprint
from tests.support import fake_pairs


def write(folder, value=0.0):
  """A captioner's folder of the same shapes, whatever the value."""
  (folder / "projector").mkdir(parents=True, exist_ok=True)
  (folder / "config.json").write_text("{}")
  weights = np.full((64, 64), 0.5, np.float32)
  save_file({"w": weights}, folder / "model.safetensors")
  weights[1:] += value
  save_file({"w": weights}, folder / "projector" / "model.safetensors")
  return str(folder)


def test_the_content_decides_not_the_place(tmp_path):
  old = fingerprint.captioner(write(tmp_path / "a"), "")
  (tmp_path / "a" / "README.md").write_text("words")
  shutil.copytree(tmp_path / "a", tmp_path / "b")
  assert fingerprint.captioner(str(tmp_path / "b"), "") == old
  assert fingerprint.captioner(write(tmp_path / "b", 1e-3), "") != old
  assert fingerprint.captioner(str(tmp_path / "a"), str(tmp_path / "b")) != old
  with pytest.raises(FileNotFoundError, match="no such folder of weights"):
    fingerprint.captioner(str(tmp_path / "c"), "")


def test_large_files_are_sampled_to_their_ends(tmp_path, monkeypatch):
  monkeypatch.setattr(fingerprint, "WHOLE", 1000)
  monkeypatch.setattr(fingerprint, "BLOCKS", 3)
  monkeypatch.setattr(fingerprint, "BLOCK", 100)
  path, seen = tmp_path / "w", set()
  for changed in (None, 0, 99, 1000, 1999):
    data = bytearray(2000)
    if changed is not None:
      data[changed] = 1
    path.write_bytes(data)
    seen.add(fingerprint.files(tmp_path, [path]))
  assert len(seen) == 5


def test_a_run_is_known_by_its_newest_checkpoint(tmp_path):
  run = tmp_path / "run"
  base = write(tmp_path / "base")
  for step in (9, 10):
    (run / "checkpoints" / str(step)).mkdir(parents=True)
    (run / "checkpoints" / str(step) / "state").write_text(f"{step}")
  (run / "config.json").write_text(f'{{"model": {{"checkpoint": "{base}"}}}}')
  found = fingerprint.captioner("", str(run))
  (run / "metrics.jsonl").write_text("{}")
  shutil.rmtree(run / "checkpoints" / "9")
  (run / "checkpoints" / "11.orbax-checkpoint-tmp").mkdir()
  assert fingerprint.captioner("", str(run)) == found
  (run / "checkpoints" / "10" / "state").write_text("other")
  changed = fingerprint.captioner("", str(run))
  assert changed != found
  write(tmp_path / "base", 1.0)
  assert fingerprint.captioner("", str(run)) != changed


def test_pairs_are_not_continued_with_other_weights(tmp_path):
  fake_pairs.clip(tmp_path / "videos" / "v.mp4", 12, 20)
  c = fake_pairs.config(tmp_path / "videos")
  c.model.checkpoint = write(tmp_path / "captioner")
  c.stages = "segments,clips"
  make_pairs.run(c, tmp_path / "run", fake_pairs.open_writer)
  make_pairs.run(c, tmp_path / "run", fake_pairs.open_writer)
  write(tmp_path / "captioner", 1.0)
  with pytest.raises(ValueError, match=r"clips.jsonl .*model.weights: '\w+'"):
    make_pairs.run(c, tmp_path / "run", fake_pairs.open_writer)
