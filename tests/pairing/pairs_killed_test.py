import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from synpo_jax import make_pairs
from synpo_jax.pairing import ledger
from tests.support import fake_pairs
from tests.support.judge_server import serve

pytestmark = pytest.mark.slow

KILLED_WHILE_GROWING = (
  *("segments.jsonl", "clips.jsonl", "candidates.jsonl"),
  *("judge_cache.jsonl", "judgements.jsonl"),
)


def size(path):
  return path.stat().st_size if path.exists() else 0


def start(videos, workdir, url):
  command = [sys.executable, "-m", fake_pairs.__name__]
  return subprocess.Popen(
    [*command, str(videos), str(workdir), url],
    env=os.environ | {"SLOW": "0.02"},
    stderr=subprocess.DEVNULL,
  )


def test_kill_9_at_random_moments_then_the_same_rows(tmp_path):
  videos = fake_pairs.clips(tmp_path / "videos")
  with serve(fake_pairs.honest) as (url, _):
    c = fake_pairs.config(videos, url)
    make_pairs.run(c, tmp_path / "whole", fake_pairs.open_writer)
  rng, run_dir = random.Random(7), tmp_path / "run"
  with serve(fake_pairs.honest, delay=0.01) as (url, log):
    for name in KILLED_WHILE_GROWING:
      before = size(run_dir / name)
      run = start(videos, run_dir, url)
      while size(run_dir / name) == before and run.poll() is None:
        time.sleep(0.002)
      time.sleep(rng.uniform(0.0, 0.05))
      run.send_signal(signal.SIGKILL)
      run.wait()
    assert start(videos, run_dir, url).wait() == 0
  for name in ledger.FILES.values():
    whole = (tmp_path / "whole" / name).read_bytes()
    assert (run_dir / name).read_bytes() == whole
  questions = [json.dumps(body, sort_keys=True) for body in log.bodies]
  repeated = len(questions) - len(set(questions))
  assert repeated <= 4 * 2  # under way when killed: four at a time, twice
