"""A run with everything in a bucket, killed, and continued on another disk."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from synpo_jax.runtime import buckets, mirror
from synpo_jax.runtime.workdir import DIGESTS
from synpo_jax.training import metrics
from synpo_jax.world.folder import write_world
from tests.support import small_captioner, stores
from tests.support.paths import ROOT
from tests.support.training_runs import environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(google, tmp_path_factory):
  """The address of a bucket with a captioner, clips and pairs."""
  made = tmp_path_factory.mktemp("all")
  write_world(made / "world", clips=16, seed=0, heldout=4, workers=1)
  small_captioner.write_captioner(made / "captioner")
  return stores.upload(made, f"{google}/all")


def start(folder, run, disk):
  """A run's process, with a disk of its own, and the file of what it says."""
  command = [
    *(sys.executable, "-m", "synpo_jax.train"),
    "--config=tests/support/run_config.py:unused",
    f"--workdir={folder}/{run}",
    f"--config.model.checkpoint={folder}/captioner",
    f"--config.model.tokenizer={folder}/captioner",
    f"--config.data.pairs={folder}/world/pairs.jsonl",
    f"--config.data.videos={folder}/world",
    f"--config.data.cache={folder}/cache",
    *("--config.world.clips=0", "--config.heldout.pairs="),
    *("--config.every.reward_norms=0", "--config.every.checkpoint=1"),
    *("--config.data.batch_size=4", "--config.data.accumulation=1"),
  ]
  disk.mkdir()
  with (disk / "said").open("w") as said:  # a pipe would fill up
    process = subprocess.Popen(
      command,
      cwd=ROOT,
      env=environment(1) | {"XDG_CACHE_HOME": str(disk)},
      stdout=said,
      stderr=subprocess.STDOUT,
    )
  return process, disk / "said"


def saved(folder, run):
  """Steps of whole checkpoints, and what the arrays of the last one hold."""
  found = buckets.at(f"{folder}/{run}/checkpoints").glob("*")
  steps = sorted(
    int(x.name) for x in found if (x / "commit_success.txt").exists()
  )
  if not steps:
    return steps, None
  last = buckets.at(f"{folder}/{run}/checkpoints/{steps[-1]}")
  return steps, json.loads((last / DIGESTS / "metadata").read_text())


def test_a_run_killed_on_one_host_goes_on_on_another(folder, tmp_path):
  process, _ = start(folder, "killed", tmp_path / "one")
  deadline = time.monotonic() + 300
  while not saved(folder, "killed")[0] and time.monotonic() < deadline:
    time.sleep(0.05)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  before = saved(folder, "killed")[0]
  for run, said in (
    ("killed", f"continuing after update {before[-1]} of"),
    ("whole", "features: 12 read, 0 computed"),
  ):
    process, file = start(folder, run, tmp_path / f"other-{run}")
    code, output = process.wait(timeout=300), file.read_text()
    assert code == 0 and said in output, output
    assert f"{folder}/{run}/checkpoints" in output
  (steps, now), (wanted, then) = saved(folder, "killed"), saved(folder, "whole")
  assert steps[-1] == wanted[-1] > before[-1]
  assert now == then
  assert losses(folder, "killed") == losses(folder, "whole")


def losses(folder, run):
  with mirror.kept(f"{folder}/{run}") as local:
    rows = metrics.read_rows(local / "metrics.jsonl")
  return [(row["step"], row["loss"]) for row in rows]
