"""The training command started on its own, and what it left behind."""

import os
import subprocess
import sys

from synpo_jax.training import metrics
from tests.support import xla
from tests.support.paths import ROOT

NOTHING_HELD_OUT = ("--config.heldout.pairs=", "--config.every.reward_norms=0")
NO_CAPTIONS = ("--config.heldout.captions=0", "--config.every.reward_norms=0")


def start(folder, workdir, *more, devices=1, loss="synpo"):
  command = [
    sys.executable,
    "-m",
    "synpo_jax.train",
    f"--config=tests/support/run_config.py:{folder},{loss}",
    f"--workdir={folder / workdir}",
    *more,
  ]
  return subprocess.Popen(
    command,
    cwd=ROOT,
    env=environment(devices),
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )


def finish(process):
  output, _ = process.communicate(timeout=400)
  return process.returncode, output


def rows(folder, workdir):
  return metrics.read_rows(folder / workdir / "metrics.jsonl")


def environment(devices):
  return os.environ | {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": xla.flags(devices),
  }
