"""What stops a run is said before anything is rendered, in every command."""

import os
import subprocess
import sys
import uuid

import pytest

from synpo_jax import preflight
from synpo_jax.runtime import buckets
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


def started(module, folder, *arguments):
  return subprocess.run(
    [
      *(sys.executable, "-m", f"synpo_jax.{module}", *arguments),
      *(f"--workdir={folder / 'run'}", f"--config.world.folder={folder}/world"),
      f"--config.data.cache={folder}/cache",
    ],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )


def test_a_bucket_is_written_read_and_left_as_it_was(monkeypatch):
  place = buckets.at(f"memory://{uuid.uuid4().hex}/run")
  assert preflight.writable(place) == "yes" and not place.files()
  monkeypatch.setattr(buckets.BucketPath, "read_text", lambda _: "y")
  assert preflight.writable(place).startswith("no: what is read there is not")
  assert "no: nowhere://x" in preflight.writable("nowhere://x/run")


def test_preflight_shows_what_is_there_and_what_is_not(tmp_path):
  done = started(
    *("preflight", tmp_path, "--config=vdc", "--config.data.pairs=no.jsonl"),
    *("--config.model.checkpoint=no", "--config.mesh.data=0"),
    *("--config.mesh.fsdp=-1", "--config.loss.name=cpo"),
  )
  assert done.returncode == 1
  assert "disk: ok, " in done.stdout and "ready" not in done.stdout
  told = done.stderr.splitlines()
  assert [line.split(":")[1].strip() for line in told] == [
    *("loss", "checkpoint", "tokenizer", "pairs", "videos"),
    "mesh.data=0",
  ]
  assert "--config=vdc:loss=cpo" in told[0]


def test_train_says_so_before_it_renders(tmp_path):
  done = started(
    "train", tmp_path, "--config=vdc", "--config.model.checkpoint=no"
  )
  assert done.returncode == 1
  assert done.stderr == "error: model.checkpoint=no: no such folder\n"
  assert not any(tmp_path.iterdir())
