"""The documented command itself: real captioner, real clips, real kills."""

import signal
import subprocess
import sys
import time

import pytest

from synpo_jax.data import pairs
from synpo_jax.pairing import ledger
from synpo_jax.runtime import journal
from synpo_jax.world import folder

pytestmark = pytest.mark.slow

SMALLER = dict(
  clips=dict(max_new_tokens=12),
  candidates=dict(candidates=3, max_new_tokens=12),
  placing=dict(batch_size=2),
)


def start(root, workdir):
  overrides = [
    f"--config.{section}.{key}={value}"
    for section, keys in SMALLER.items()
    for key, value in keys.items()
  ]
  command = [
    *(sys.executable, "-m", "synpo_jax.make_pairs"),
    "--config=configs/pairs.py:tiny",
    f"--config.root={root}",
    f"--config.judge.truth.scenes={root / 'scenes.jsonl'}",
    f"--workdir={workdir}",
    "--config.stages=segments,clips,corrupted,candidates,judge,pairs",
    *overrides,
  ]
  return subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finish(run):
  said = run.communicate()[0]
  assert run.returncode == 0, said[-3000:]
  return said


@pytest.mark.slow
def test_killed_on_the_way_the_demo_ends_with_the_same_pairs(tmp_path):
  folder.render_world(tmp_path, range(810_000, 810_004))
  said = finish(start(tmp_path, tmp_path / "whole"))
  assert "judged videos" in said
  for stage in ("clips", "candidates"):
    path = ledger.path(tmp_path / "killed", stage)
    run = start(tmp_path, tmp_path / "killed")
    while run.poll() is None and not (path.exists() and path.stat().st_size):
      time.sleep(0.01)
    assert run.poll() is None, run.communicate()[0][-3000:]
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert 0 < len(journal.read(path)) <= 4
  finish(start(tmp_path, tmp_path / "killed"))
  for name in (ledger.FILES | ledger.MORE).values():
    whole = (tmp_path / "whole" / name).read_bytes()
    assert (tmp_path / "killed" / name).read_bytes() == whole
  taken = pairs.read_pairs(
    tmp_path / "whole" / "pairs.jsonl",
    question=None,
    captions=2,
    min_score_gap=None,
  )
  assert taken.pairs
