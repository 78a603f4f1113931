"""Other weights under the same name are other weights."""

import hashlib
import json
import os
import shutil
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

from synpo_jax import make_pairs
from synpo_jax.runtime import digests
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


def test_every_byte_counts(tmp_path):
  """Of a file that was once looked at in samples of every 64 KB."""
  path, seen = tmp_path / "w.safetensors", set()
  size = digests.SMALL + 5
  for changed in (None, 0, 70_001, size // 2 + 3, size - 1):
    data = bytearray(size)
    if changed is not None:
      data[changed] = 1
    path.write_bytes(data)
    seen.add(fingerprint.files(tmp_path, [path]))
  assert len(seen) == 5


@pytest.fixture
def large(tmp_path, monkeypatch):
  """A file that counts as large and as long unchanged."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  monkeypatch.setattr(digests, "SMALL", 10)
  monkeypatch.setattr(digests, "FRESH", 0)
  path = tmp_path / "w.safetensors"
  path.write_bytes(b"a" * 100)
  return path


def test_a_digest_is_remembered_until_the_file_changes(large, monkeypatch):
  old = digests.of(large)
  assert old == hashlib.sha256(b"a" * 100).digest()
  monkeypatch.setattr(digests, "_read", lambda path: b"read again")
  assert digests.of(large) == old
  (kept,) = digests.folder().iterdir()
  assert json.loads(kept.read_text())["sha256"] == old.hex()
  content = kept.read_bytes()
  at = content.index(old.hex().encode())  # one bit of the digest kept
  kept.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
  assert digests.of(large) == b"read again"


def test_a_file_put_back_in_time_is_read_again(large):
  """As many bytes and the same time of change, as copies can keep it."""
  old, times = digests.of(large), large.stat()
  time.sleep(0.02)  # longer than a file system's clock stands still
  large.write_bytes(b"b" * 100)
  os.utime(large, ns=(times.st_atime_ns, times.st_mtime_ns))
  assert large.stat().st_mtime_ns == times.st_mtime_ns
  assert digests.of(large) != old


def test_what_just_changed_is_not_remembered(large, monkeypatch):
  monkeypatch.setattr(digests, "FRESH", 60 * 10**9)
  digests.of(large)
  assert not digests.folder().exists()


def test_a_cache_that_cannot_be_written_is_done_without(large):
  digests.folder().parent.mkdir(parents=True)
  digests.folder().write_text("a file")
  assert digests.of(large) == hashlib.sha256(b"a" * 100).digest()


def test_a_run_is_compared_with_its_base(tmp_path, caplog):
  base, run = write(tmp_path / "base"), tmp_path / "run"
  run.mkdir()
  fingerprint.check_base(run, "")
  assert not caplog.messages
  fingerprint.check_base(run, base)
  assert "keeps no digest" in caplog.text
  held = {"captioner_digest": fingerprint.captioner(base, "")}
  (run / "identity.json").write_text(json.dumps(held))
  fingerprint.check_base(run, base)
  write(tmp_path / "base", 1e-3)
  with pytest.raises(ValueError, match="not the files that .*run started from"):
    fingerprint.check_base(run, base)


def test_a_run_that_says_two_things_of_its_base_is_named(tmp_path):
  base, run = write(tmp_path / "base"), tmp_path / "run"
  place = run / "checkpoints" / "3" / "inputs"
  place.mkdir(parents=True)
  digest = fingerprint.captioner(base, "")
  (run / "identity.json").write_text(json.dumps({"captioner_digest": digest}))
  (place / "metadata").write_text(json.dumps({"model.checkpoint": digest}))
  fingerprint.check_base(run, base)
  (place / "metadata").write_text(json.dumps({"model.checkpoint": "0123"}))
  with pytest.raises(
    ValueError, match=r"identity.json: .*checkpoints/3 \(0123"
  ):
    fingerprint.check_base(run, base)


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
