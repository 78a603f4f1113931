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
from synpo_jax.runtime import journal
from tests.support import captioner_server, fake_pairs
from tests.support.judge_server import serve

pytestmark = pytest.mark.slow

KILLED_WHILE_GROWING = (
  *("segments.jsonl", "clips.jsonl", "candidates.jsonl"),
  *("judge_cache.jsonl", "judgements.jsonl"),
)


def size(path):
  return path.stat().st_size if path.exists() else 0


def start(videos, workdir, url, **environment):
  command = [sys.executable, "-m", fake_pairs.__name__]
  return subprocess.Popen(
    [*command, str(videos), str(workdir), url],
    env=os.environ | {"SLOW": "0.02"} | environment,
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


def test_a_served_captioner_is_asked_nothing_twice(tmp_path):
  videos = fake_pairs.clips(tmp_path / "videos")
  with serve(fake_pairs.both) as (url, log):
    make_pairs.run(fake_pairs.served(videos, url), tmp_path / "whole")
  needed, run_dir = len(log.bodies), tmp_path / "run"
  captioned = sum(map(captioner_server.is_captioning, log.bodies))
  cache = run_dir / "captioner_cache.jsonl"
  with serve(fake_pairs.both, delay=0.02) as (url, log):
    for more in (3, 30):
      before = size(cache)
      run = start(videos, run_dir, url, SERVED="1")
      while size(cache) < before + more * 400 and run.poll() is None:
        time.sleep(0.002)
      run.send_signal(signal.SIGKILL)
      run.wait()
    killed = len(log.bodies)
    assert 0 < killed < needed
    assert start(videos, run_dir, url, SERVED="1").wait() == 0
  assert needed <= len(log.bodies) <= needed + 4 * 2  # four under way, twice
  for name in ("clips", "candidates", "pairs"):
    whole, run = (
      [row for row in journal.read(ledger.path(folder, name)).values()]
      for folder in (tmp_path / "whole", run_dir)
    )
    words = ("captions", "first", "chosen", "rejected", "id", "tokens")
    assert [{w: row.get(w) for w in words} for row in run] == [
      {w: row.get(w) for w in words} for row in whole
    ]
  paid = json.loads((run_dir / "summary.json").read_text())["captioner"]
  assert paid["calls"] == captioned
