"""The benchmarks' own commands, at sizes of no interest.

PyTorch's step runs in this environment too, so its numbers are the oracle of
ours: the same weights and tokens through another program.
"""

import json
import os
import re
import subprocess
import sys

import pytest

from benchmarks import floor, page, step, workload
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

KEYS = {"shape", "impl", "seconds", "spread", "peak_bytes"}
IMPLS = ("synpo_shared", "synpo_two_sequence", "torch_synpo")


def run(script, *args, torch=False):
  """A benchmark as a reader would start it, PyTorch beside it if it is asked.

  That takes seconds to import.
  """
  clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  return subprocess.run(
    [sys.executable, f"benchmarks/{script}", *args],
    cwd=ROOT,
    env=clean if torch else os.environ,
    capture_output=True,
    text=True,
  )


def test_implementations_of_the_step_agree(tmp_path):
  out = tmp_path / "step.json"
  done = run(
    "step.py",
    "--shapes=24:8",
    f"--impls={','.join(IMPLS)}",
    "--size=tiny",
    "--rank=4",
    "--repeats=1",
    f"--peers-python={sys.executable}",
    "--dropout=0",
    "--check",
    f"--json={out}",
    torch=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert "losses and gradients agree" in done.stdout
  rows = json.loads(out.read_text())
  assert [row["impl"] for row in rows] == list(IMPLS)
  for row in rows:
    assert row["shape"] == "24:8" and KEYS <= set(row)
    assert 0 < row["seconds"] < 60 and row["spread"] == 0
    assert 2**27 < row["peak_bytes"] < 2**32


def test_dropout_is_timed_beside_the_step_without_it():
  command = [sys.executable, "-m", "benchmarks.dropout"]
  command += ["--size=tiny", "--shape=24:8", "--rounds=2"]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert "24:8, 2 rounds" in done.stdout
  assert re.search(r"without [\d.]+ s, with [\d.]+ s: .*% more", done.stdout)


def test_a_difference_is_named():
  first = dict(shape="8:4", impl="synpo_shared", loss=-0.5, chosen_logp=-3.0)
  first |= dict(rejected_logp=-3.0, grad_norm=1.0)
  other = first | dict(impl="torch_synpo", chosen_logp=-3.01)
  assert step.check([first, first | dict(impl="torch_synpo")]) == []
  (fault,) = step.check([first, other])
  assert "synpo_shared and torch_synpo at 8:4: chosen_logp" in fault
  assert step.check([first, other | dict(shape="9:4")]) == []
  assert step.check([first, first | dict(impl="trl_dpo", loss=1.0)]) == []


@pytest.mark.parametrize(
  "args, message",
  [
    (["--shapes=8x4", "--without-peers"], "write PREFIX:RESPONSE"),
    (["--impls=sympo"], "'sympo' is not one of"),
    (["--check"], "--check compares losses: give --dropout=0 too"),
    (["--peers-python=/nowhere"], "peers.py setup"),
  ],
)
def test_bad_flags_end_in_one_line(args, message):
  done = run("step.py", *args)
  assert done.returncode != 0
  (line,) = done.stderr.strip().splitlines()
  assert line.startswith("error: ") and message in line


def test_the_peers_environment_is_set_up_by_name_only():
  done = run("peers.py")
  assert "benchmarks/peers.py setup" in done.stderr and done.returncode != 0


def test_tokens_are_the_same_for_all():
  task = workload.Task(
    "x", workload.Shape(5, 3), "tiny", 2, "", "", "", 0, 0.1, {}
  )
  again = workload.task(task.text())
  assert again == task
  for a, b in zip(workload.pair(task), workload.pair(again), strict=True):
    assert (a == b).all()
  prompts, captions = workload.pair(task)
  assert prompts.shape == (2, 5) and captions.shape == (2, 2, 3)
  assert (captions[..., -1] == workload.EOS).all() and prompts.min() > 2


def mask(prefix, response, shared):
  """Who sees whom among the rows of a pair, position by position."""
  rows = [["p"] * prefix + ["c"] * response + ["r"] * response]
  if not shared:
    rows = [["p"] * prefix + [c] * response for c in "cr"]
  return [
    [row[j] in ("p", row[i]) for j in range(i + 1)]
    for row in rows
    for i in range(len(row))
  ]


@pytest.mark.parametrize("shared", [True, False])
def test_the_floor_counts_what_is_seen(shared):
  shape = workload.Shape(7, 3)
  view = mask(*shape, shared)
  assert floor.tokens(shape, shared) == len(view)
  assert floor.seen(shape, shared) == sum(map(sum, view))


def test_the_floor_knows_the_model():
  base, adapter = floor.weights("smollm2_135m", 128)
  norms, table = 61 * 576, 49152 * 576
  assert base + norms + table == 134_515_008  # as published
  assert adapter == 30 * 128 * (4 * 2 * 576 - 2 * 384 + 3 * (576 + 1536))
  parts = floor.needed(
    "smollm2_135m", 128, workload.Shape(10, 5), shared=True, reference=True
  )
  assert parts["base"] == 4 * 20 * base
  assert parts["reference"] > 2 * 20 * base


def test_the_page_says_which_goals_are_met():
  common = dict(shape="9:4", spread=0.1, machine="m", load=0.5, timed=3)
  common |= dict(malloc="default", versions="v", cpu_seconds=1.0)
  rows = [
    common | dict(impl="synpo_shared", seconds=1.0, peak_bytes=2**30),
    common | dict(impl="torch_dpo", seconds=2.5, peak_bytes=3 * 2**30),
    common | dict(impl="trl_dpo", seconds=1.5, peak_bytes=3 * 2**30),
  ]
  speed = dict(gflops=100.0, gbytes=10.0, least_bytes=10**9)
  text = page.step_section(rows, speed)
  assert "0.40x | 0.33x | time ≤ 0.50x, memory ≤ 0.50x: met" in text
  assert "**missed**" in next(x for x in text.splitlines() if "trl_dpo" in x)
  assert "0.10 s" in text


@pytest.mark.slow
def test_scaling_measures_and_draws(tmp_path):
  done = run(
    "scaling.py", "--quick", "--repeats=1", "--updates=3", f"--out={tmp_path}"
  )
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "scaling.json").read_text())
  assert (tmp_path / "scaling.png").stat().st_size > 10_000
  for axis in ("pairs", "frames", "caption", "devices"):
    small, large = found[axis][0], found[axis][-1]
    assert small["seconds"] > 0
    if axis == "devices":  # a batch shared out
      assert large["device_bytes"] < small["device_bytes"]
    else:
      assert large["device_bytes"] > small["device_bytes"]
  for row in found["rows"]:
    for when in ("first_epoch", "last_epoch"):
      assert row[when]["seconds_per_pair"] > 0
      assert 0 <= row[when]["waiting_share"] < 1
