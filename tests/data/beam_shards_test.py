"""Beam's workers make the files that one process makes, killed or not."""

import functools
import json
import os
import subprocess
import sys

import pytest

from synpo_jax import decode
from synpo_jax.data import beam_shards, chunks, shards
from synpo_jax.runtime import buckets
from synpo_jax.training import job, loop, metrics
from synpo_jax.weights import config_reading
from synpo_jax.world.folder import write_world
from tests.support import beam_build, clips, run_config
from tests.support.paths import ROOT

WORKERS = (
  *("runner=DirectRunner", "direct_running_mode=multi_processing"),
  "direct_num_workers=2",
)
KILLED = {"KILLED_AT": "v3", "PYTHONPATH": str(ROOT / "tests/support/killed")}


@pytest.fixture
def beam():
  return pytest.importorskip("apache_beam", reason="pip install -e '.[beam]'")


@pytest.fixture
def paths(tmp_path, monkeypatch):
  """Seven files, one of which is no clip; chunks are of two."""
  monkeypatch.setattr(shards, "CHUNK", 2)
  folder = tmp_path / "clips"
  folder.mkdir()
  for i in range(6):
    clips.stamped(
      folder / f"v{i}.avi", 5 + i, rate=5, codec="mjpeg", pixels="yuvj420p"
    )
  (folder / "v1_words.avi").write_text("no video")
  return {path.stem: path for path in sorted(folder.iterdir())}


def files(cache):
  """The content of every file of a cache, but the lock's."""
  found = (path for path in cache.rglob("*") if path.is_file())
  whole = {path.relative_to(cache).as_posix(): path for path in found}
  return {n: path.read_bytes() for n, path in whole.items() if "/lock" not in n}


def test_a_killed_worker_ends_the_run_and_the_next_makes_the_same_files(
  beam, paths, tmp_path
):
  here = shards.build(paths, tmp_path / "here", **beam_build.HOW)
  assert set(here.quarantined) == {"v1_words"}
  cache, folder = tmp_path / "beam", tmp_path / "clips"
  killed = subprocess.run(
    [sys.executable, "-m", "tests.support.beam_build", folder, cache, *WORKERS],
    cwd=ROOT,
    env=os.environ | KILLED,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert killed.returncode == 1, killed.stderr
  said = f"error: {cache}/{here.report.parent.name}: a worker of the Beam"
  assert said in killed.stderr
  assert not list(cache.glob("*/chunk-00002"))  # v3's
  done = beam_shards.build(paths, cache, options=WORKERS, **beam_build.HOW)
  assert done.quarantined == here.quarantined
  assert files(cache) == files(tmp_path / "here")
  assert len(list(cache.glob("*/chunk-*"))) == 4
  assert shards.build(paths, cache, **beam_build.HOW) == done


def test_in_a_bucket_nothing_is_brought_here(beam, paths, tmp_path):
  cache = buckets.at(f"memory://bucket{tmp_path}")
  one = ["direct_num_workers=1"]
  made = beam_shards.build(paths, cache, options=one, **beam_build.HOW)
  assert set(made.quarantined) == {"v1_words"}
  rows = [json.loads(x) for x in made.report.read_text().splitlines()]
  assert [row["video"] for row in rows] == ["v1_words"]
  names = [path.relative_to(cache).parts for path in cache.files()]
  assert not any(part.startswith("building-") for n in names for part in n)
  read = shards.build(paths, cache, **beam_build.HOW)
  stored = chunks.Frames(list(read.places.values()), (12, 16))
  assert [stored(i).shape[0] for i in range(len(stored))] == [2] * 5 + [2]
  assert [path.relative_to(cache).parts for path in cache.files()][:9]


def test_a_run_trains_on_what_beam_decoded(beam, tmp_path, monkeypatch):
  write_world(tmp_path / "world", clips=8, seed=0, heldout=0, workers=1)
  c = run_config.get_config(tmp_path)
  c.world.clips = c.heldout.captions = c.every.reward_norms = 0
  c.heldout.update(pairs="", scenes="")
  c.data.update(batch_size=8, accumulation=1)
  c.mesh.data, c.epochs = -1, 1
  build = functools.partial(beam_shards.build, options=WORKERS)
  sizes = config_reading.captioner_config(c.model.arch.to_dict())
  (rows,) = decode.wanted(c)
  store = decode.decode(c, rows, sizes, build)
  assert len(store.places) == 8 and not store.quarantined

  def decoded_anew(*args, **how):
    raise AssertionError("its shards are not read")

  monkeypatch.setattr(shards.decoding, "decode", decoded_anew)
  ready = job.prepare(c, tmp_path / "run")
  for number in range(8):
    assert ready.data.frames(number).std() > 10  # pictures
  assert int(loop.train(ready, c, tmp_path / "run").state.step) == 1
  (row,) = metrics.read_rows(tmp_path / "run" / "metrics.jsonl")
  assert row["pairs"] == 8 and row["loss"] < 0 and row["grad_norm"] > 0


def test_an_option_that_the_direct_runner_does_not_have_is_named(
  beam, tmp_path
):
  with pytest.raises(ValueError, match="has no direct_num_worker$"):
    beam_shards.build(
      {}, tmp_path, options=["direct_num_worker=2"], **beam_build.HOW
    )


def test_without_beam_one_line_names_the_extra(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "apache_beam", None)
  with pytest.raises(ValueError, match=r"synpo_jax\[beam\]") as found:
    beam_shards.build({}, tmp_path, options=["runner=x"], **beam_build.HOW)
  assert "\n" not in str(found.value)
