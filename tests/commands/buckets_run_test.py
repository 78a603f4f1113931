"""Two hosts without a common disk, everything in a bucket, killed at once."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from synpo_jax.runtime import buckets, mirror
from synpo_jax.runtime.workdir import DIGESTS
from synpo_jax.training import metrics
from synpo_jax.world.folder import write_world
from tests.support import json_rows, small_captioner, stores
from tests.support.paths import ROOT
from tests.support.training_runs import environment, finish

pytestmark = pytest.mark.slow
# What every held-out clip is said to show, in words that the captioner writes:
# as all have them, CIDEr-D is 0 whatever it writes, and ROUGE-L is not.
TOLD = "It check dark grass sunny It everything"


@pytest.fixture(scope="module")
def folder(google, tmp_path_factory):
  """The address of a bucket with a captioner, clips and pairs."""
  made = tmp_path_factory.mktemp("all")
  write_world(made / "world", clips=16, seed=0, heldout=4, workers=1)
  small_captioner.write_captioner(made / "captioner")
  pairs = json_rows.read(made / "world" / "heldout.jsonl")
  rows = [{"video": row["video"], "references": [TOLD]} for row in pairs]
  lines = [json.dumps(row) + "\n" for row in rows]
  (made / "references.jsonl").write_text("".join(lines))
  return stores.upload(made, f"{google}/all")


def start(folder, run, disk, process=0, processes=1, port=0, module="train"):
  """One process of a run, with a disk of its own."""
  command = [
    *(sys.executable, "-m", f"synpo_jax.{module}"),
    f"--config=tests/support/run_config.py:{disk}",
    f"--workdir={folder}/{run}",
    f"--config.model.checkpoint={folder}/captioner",
    f"--config.model.tokenizer={folder}/captioner",
    f"--config.data.pairs={folder}/world/pairs.jsonl",
    f"--config.data.videos={folder}/world",
    f"--config.data.cache={folder}/cache-{run}",
    f"--config.heldout.pairs={folder}/world/heldout.jsonl",
    f"--config.heldout.videos={folder}/world",
    *("--config.world.clips=0", "--config.heldout.captions=0"),
    "--config.heldout.scenes=",
    *("--config.loss.name=rpo", "--config.loss.coefficients.alpha=1.0"),
    "--config.loss.coefficients.beta=0.1",  # it has a reference
    *("--config.every.reward_norms=0", "--config.every.checkpoint=3"),
    *("--config.data.batch_size=4", "--config.data.accumulation=1"),
    f"--config.captioning.references={folder}/references.jsonl",
    *("--config.captioning.max_new_tokens=8", "--config.every.evaluate=3"),
    *("--config.keep.best=heldout/cider_d", "--config.keep.patience=2"),
    "--config.epochs=3",  # and two of them are run
  ]
  if processes > 1:
    command += [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}"]
    command += [f"--process={process}"]
  own = {"XDG_CACHE_HOME": str(disk / f"{run}-{process}-of-{processes}")}
  return subprocess.Popen(
    command,
    cwd=ROOT,
    env=environment(2 // processes) | own,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )


def start_two(folder, run, disk):
  with socket.socket() as some:
    some.bind(("127.0.0.1", 0))
    port = some.getsockname()[1]
  return [start(folder, run, disk, i, 2, port) for i in range(2)]


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


def test_a_run_killed_on_two_hosts_goes_on_on_one(folder, tmp_path):
  both = [finish(p) for p in start_two(folder, "whole", tmp_path)]
  assert [code for code, _ in both] == [0, 0], both
  output = both[0][1]
  for cache in ("features", "references"):
    assert f"{cache}: 0 read, 12 computed; verified 4" in output, output
  assert "ranking accuracy" in output
  assert "ranking accuracy" not in both[1][1]  # one of them prints
  assert "no better since 2 evaluations: done" in output
  both = start_two(folder, "killed", tmp_path)
  deadline = time.monotonic() + 300
  while not saved(folder, "killed")[0] and time.monotonic() < deadline:
    time.sleep(0.1)
  for process in both:
    os.kill(process.pid, signal.SIGKILL)
  for process in both:
    finish(process)
  before = saved(folder, "killed")[0]
  code, output = finish(start(folder, "killed", tmp_path))
  assert code == 0 and f"continuing after update {before[-1]}" in output, output
  assert "/tmp/" not in output  # all is named by its place in the bucket
  assert f"{folder}/killed/checkpoints" in output
  assert "features: 12 read, 0 computed" in output
  assert "references: 12 read, 0 computed" in output
  (steps, now), (wanted, then) = saved(folder, "killed"), saved(folder, "whole")
  assert steps[-1] == wanted[-1] > before[-1]
  assert now == then
  names = "loss", "heldout/rouge_l", "heldout/cider_d"
  (one, told), (many, then) = (
    values(folder, x, names) for x in ("killed", "whole")
  )
  assert one == many and told == then  # captions, too, are those of one process
  assert [row[0] for row in told] == [0, 3, 6]
  assert all(rouge > 0 and cider == 0 for _, rouge, cider in told)
  for run in ("killed", "whole"):
    assert saved(folder, f"{run}/best")[0] == [0]


def values(folder, run, names):
  """Steps and values of a run's rows: of its updates, of its evaluations."""
  with mirror.kept(f"{folder}/{run}") as local:
    files = [local / f"{kind}.jsonl" for kind in ("metrics", "eval")]
    return [
      [
        (row["step"], *(row[name] for name in names if name in row))
        for row in metrics.read_rows(file)
      ]
      for file in files
    ]
