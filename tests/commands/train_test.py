"""The training command itself, in processes of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from synpo_jax import export
from synpo_jax.models import initial
from synpo_jax.models.captioner import Captioner
from synpo_jax.runtime import buckets, one_writer
from synpo_jax.training import job
from synpo_jax.weights import adapters
from tests.support import run_config, stores, training_runs
from tests.support.paths import ROOT
from tests.support.read_folder import read_folder
from tests.support.training_runs import (
  NO_CAPTIONS,
  NOTHING_HELD_OUT,
  environment,
  finish,
  rows,
)

pytestmark = pytest.mark.slow

UPDATES = 8  # 16 clips, 4 pairs an update, two epochs
# Adapters on every part; of the tower, behind its first layer.
WHERE = "--config.lora.where=('decoder','projector','tower')"


def start(folder, workdir, *more, **how):
  layers = "--config.lora.tower_layers=1"
  return training_runs.start(folder, workdir, WHERE, layers, *more, **how)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("run")


def wait_for_step(folder, workdir, step, process):
  deadline = time.monotonic() + 300
  while time.monotonic() < deadline:
    if any(row["step"] >= step for row in rows(folder, workdir)):
      return
    assert process.poll() is None, process.communicate()[0]
    time.sleep(0.02)
  raise AssertionError(f"no step {step} in 300 s")


@contextlib.contextmanager
def other_rows(path):
  """The chosen caption of the last row is another, for a while."""
  text = path.read_text()
  *lines, last = text.splitlines()
  changed = json.loads(last) | {"chosen": "Nothing moves."}
  path.write_text("\n".join([*lines, json.dumps(changed)]) + "\n")
  yield
  path.write_text(text)


def final_state(folder, workdir):
  path = (folder / workdir / "checkpoints").absolute()
  with ocp.CheckpointManager(path) as manager:
    assert manager.latest_step() == UPDATES
    return manager.restore(
      UPDATES, args=ocp.args.Composite(state=ocp.args.StandardRestore())
    )["state"]


@pytest.fixture(scope="module")
def uninterrupted(folder):
  code, output = finish(start(folder, "whole"))
  assert code == 0, output
  return output


def test_a_run_shows_what_it_changed(folder, uninterrupted):
  assert "ranking accuracy" in uninterrupted
  assert "F1 of claims" in uninterrupted
  assert (folder / "whole" / "report" / "index.html").exists()
  assert list((folder / "whole" / "events").glob("events*"))
  logged = rows(folder, "whole")
  assert [row["step"] for row in logged] == list(range(1, UPDATES + 1))
  wanted = {
    "loss",
    "chosen_logp",
    "rejected_logp",
    "chosen_geo_prob",
    "rejected_geo_prob",
    "chosen_avg_prob",
    "accuracy",
    "margin",
    "grad_norm",
    "lr",
    "pairs_per_s",
    "tokens_per_s",
    "skipped",
  }
  assert all(wanted <= row.keys() for row in logged)
  with_norms = [r["step"] for r in logged if "chosen_reward_grad_norm" in r]
  assert with_norms == [1, 4, 7]
  assert "compiled 1 train steps" in uninterrupted


def same_run(folder, one, other):
  timing = {"pairs_per_s", "tokens_per_s", "waiting_share"}
  for a, b in zip(rows(folder, one), rows(folder, other), strict=True):
    drop = timing | {k for k in a if k.endswith("reward_grad_norm")}
    assert {k: v for k, v in a.items() if k not in drop} == {
      k: v for k, v in b.items() if k not in drop
    }
  jax.tree.map(
    np.testing.assert_array_equal,
    final_state(folder, one),
    final_state(folder, other),
  )


def test_importance_of_tokens_is_measured_on_a_run(
  folder, uninterrupted, google
):
  """Which lies in a bucket."""
  workdir = buckets.at(stores.upload(folder / "whole", f"{google}/whole"))
  module = ["-m", "synpo_jax.importance"]
  done = subprocess.run(
    [sys.executable, *module, f"--workdir={workdir}", "--videos=2"],
    cwd=ROOT,
    env=environment(1),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  lines = (workdir / "importance.jsonl").read_text().splitlines()
  found = [json.loads(line) for line in lines]
  assert len({row["video"] for row in found}) == 2
  assert any(row["importance"] for row in found)


def test_killed_and_stopped_a_run_ends_as_uninterrupted(folder, uninterrupted):
  """Once by kill -9 between checkpoints, once by Ctrl-C, which saves first."""
  how = ("--config.world.clips=0", *NOTHING_HELD_OUT)
  process = start(folder, "stopped", *how)
  wait_for_step(folder, "stopped", 3, process)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  rarely = "--config.every.checkpoint=100"
  process = start(folder, "stopped", *how, rarely)
  wait_for_step(folder, "stopped", 5, process)
  process.send_signal(signal.SIGINT)
  code, output = finish(process)
  assert code == 0 and "continuing after update 2 of 8" in output, output
  assert "SIGINT: saving after this update" in output
  assert "start it again to go on" in output
  assert "Traceback" not in output
  with other_rows(folder / "world" / "pairs.jsonl"):
    code, output = finish(start(folder, "stopped", *how))
  assert code == 1 and "data.pairs is not what the run began with" in output
  code, output = finish(start(folder, "stopped", *how))
  assert code == 0 and "continuing after update" in output, output
  same_run(folder, "whole", "stopped")


def test_a_hangup_before_the_first_update_ends_in_one_line(
  folder, uninterrupted
):
  process = start(folder, "early", "--config.world.clips=0")
  for line in process.stdout:
    if line.startswith("data: "):
      break
  process.send_signal(signal.SIGHUP)
  code, output = finish(process)
  assert code == 128 + signal.SIGHUP, output
  said = "stopped by SIGHUP: what was decoded, cached and saved is kept; the "
  assert output.strip().splitlines()[-1] == said + "same command goes on"
  assert "Traceback" not in output


def test_a_workdir_that_another_run_writes_is_refused(folder):
  with one_writer.held(folder / "held"):
    code, output = finish(start(folder, "held"))
  said = f"error: {folder}/held is held by process {os.getpid()} on "
  assert code == 1 and output.startswith(said), output
  assert output.count("\n") == 1


def test_four_devices_give_the_losses_of_one(folder, uninterrupted):
  config = ("--config.mesh.data=2", "--config.mesh.fsdp=1", *NO_CAPTIONS)
  code, output = finish(
    start(folder, "spread", *config, "--config.mesh.model=2", devices=4)
  )
  assert code == 0, output
  for one, many in zip(
    rows(folder, "whole"), rows(folder, "spread"), strict=True
  ):
    assert abs(one["loss"] - many["loss"]) < 1e-5
    assert abs(one["chosen_logp"] - many["chosen_logp"]) < 1e-4


@pytest.mark.parametrize(
  ("more", "said"),
  [
    (["--config.optim.lrr=1"], "lrr"),
    (["--config.seed=7", "--workdir={whole}"], "seed (0 there, 7 now)"),
    (["--config.data.pairs=nothing.jsonl"], "nothing.jsonl"),
  ],
)
def test_bad_input_ends_in_one_line(folder, uninterrupted, more, said):
  more = [word.format(whole=folder / "whole") for word in more]
  code, output = finish(start(folder, f"bad{abs(hash(said))}", *more))
  assert code != 0
  last = output.strip().splitlines()[-1]
  assert said in output, output
  assert "Traceback" not in output or "lrr" in said, output
  assert last


@pytest.mark.parametrize(
  ("section", "key", "value", "said"),
  [
    (None, "trainable", "lora/none", "matches no weight"),
    ("model", "checkpoint", "nowhere", "nowhere"),
    ("mesh", "data", 1000, "needs 1000 devices"),
  ],
)
def test_bad_values_are_named(folder, uninterrupted, section, key, value, said):
  """What `main` says in that line."""
  c = run_config.get_config(str(folder))
  c.world.clips, c.data.batch_size = 0, 8  # over the tests' 8 devices
  (c[section] if section else c)[key] = value
  with pytest.raises((ValueError, OSError), match=said) as found:
    job.prepare(c, folder / f"bad_{key}")
  assert "\n" not in str(found.value)


def test_adapters_on_an_int8_base_leave_on_the_float_one(folder):
  """The adapter learned on rounded weights; it is merged into the exact.

  By several losses at once: before it learns, policy and reference are one.
  """
  sections = dict(model="base=int8", heldout="pairs=", every="reward_norms=0")
  more = [f"--config.{key}.{value}" for key, value in sections.items()]
  more.append("--config.epochs=1")
  code, output = finish(start(folder, "int8", *more, loss="mpo"))
  assert code == 0, output
  logged = rows(folder, "int8")
  losses = [row["loss"] for row in logged]
  first = (0.8 + 0.2 * 2) * np.log(2) - logged[0]["chosen_logp"]
  np.testing.assert_allclose(losses[0], first, rtol=1e-4)
  assert np.isfinite(losses).all() and losses[-1] != losses[0]
  workdir, merged = folder / "int8", folder / "merged"
  export.export(workdir, "merged", merged)
  config, params = read_folder(merged)
  start_weights = initial.params(Captioner(config), 0)
  learned = adapters.read_run(workdir).lora["decoder"]["layers"]["attn"]["q"]
  kernels = [
    np.asarray(tree["decoder"]["layers"]["attn"]["q"]["kernel"])
    for tree in (params, start_weights)
  ]
  change = learned["a"] @ learned["b"]  # alpha is the rank
  assert np.abs(change).max() > 1e-4
  np.testing.assert_allclose(kernels[0] - kernels[1], change, atol=1e-7)
