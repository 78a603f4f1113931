"""The benchmarks' own commands, at sizes of no interest.

PyTorch's step runs in this environment too, so its numbers are the oracle of
ours: the same weights and tokens through another program.
"""

import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks import step, workload

ROOT = pathlib.Path(__file__).parent.parent
KEYS = {"shape", "impl", "seconds", "spread", "peak_bytes"}
IMPLS = ("synpo_shared", "synpo_two_sequence", "torch_synpo")


def run(script, *args):
  """A benchmark as a reader would start it."""
  return subprocess.run(
    [sys.executable, f"benchmarks/{script}", *args],
    cwd=ROOT,
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
    "--check",
    f"--json={out}",
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert "losses and gradients agree" in done.stdout
  rows = json.loads(out.read_text())
  assert [row["impl"] for row in rows] == list(IMPLS)
  for row in rows:
    assert row["shape"] == "24:8" and KEYS <= set(row)
    assert 0 < row["seconds"] < 60 and row["spread"] == 0
    assert 2**27 < row["peak_bytes"] < 2**32


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
  task = workload.Task("x", workload.Shape(5, 3), "tiny", 2, "", "", "", 0, {})
  again = workload.task(task.text())
  assert again == task
  for a, b in zip(workload.pair(task), workload.pair(again), strict=True):
    assert (a == b).all()
  prompts, captions = workload.pair(task)
  assert prompts.shape == (2, 5) and captions.shape == (2, 2, 3)
  assert (captions[..., -1] == workload.EOS).all() and prompts.min() > 2
