"""A folder has one writer at a time; dead ones never block."""

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from configs import caption as caption_config
from configs import claims as claims_config
from configs import eval_shapes, pairs
from synpo_jax import caption, claims, evaluate, make_pairs
from synpo_jax.runtime import one_writer
from tests.support.paths import ROOT

HOLD = """
import sys, time
from synpo_jax.runtime import one_writer
with one_writer.held(sys.argv[1]):
  print("held", flush=True)
  time.sleep(100)
"""


def holder(folder):
  process = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(folder)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "held\n"
  return process


def test_a_second_writer_is_told_who_the_first_is(tmp_path):
  process = holder(tmp_path / "run")
  try:
    said = f"run is held by process {process.pid} on {platform.node()} since"
    with pytest.raises(ValueError, match=said) as found:
      with one_writer.held(tmp_path / "run"):
        pass
    assert "\n" not in str(found.value)
    with one_writer.held(tmp_path / "run", name=".lock-1"):
      pass  # another share of the same run
  finally:
    process.send_signal(signal.SIGKILL)
    process.wait()
  assert (tmp_path / "run" / ".lock").exists()  # as a killed run leaves it
  start = time.monotonic()
  with one_writer.held(tmp_path / "run"):
    pass
  assert time.monotonic() - start < 1
  assert not list((tmp_path / "run").iterdir())


def test_parts_of_a_folder_are_held_by_name(tmp_path):
  with one_writer.held(tmp_path, ".a.lock", tmp_path / "a.jsonl"):
    with one_writer.held(tmp_path, ".b.lock", tmp_path / "b.jsonl"):
      pass
    said = f"a.jsonl is held by process {os.getpid()}"
    with pytest.raises(ValueError, match=said):
      with one_writer.held(tmp_path, ".a.lock", tmp_path / "a.jsonl"):
        pass


def elsewhere(tmp_path, monkeypatch):
  """A lock file of another machine, whose locks do not show here."""
  monkeypatch.setattr(one_writer, "WATCH", 1.0)
  own = {"process": 7, "host": "other", "machine": "x", "since": "noon"}
  lock = tmp_path / ".lock"
  lock.write_text(json.dumps(own))
  return lock


def test_a_dead_writer_of_another_host_blocks_only_for_the_watch(
  tmp_path, monkeypatch, capsys
):
  elsewhere(tmp_path, monkeypatch)
  with one_writer.held(tmp_path):
    pass
  assert "process 7 on other since noon wrote here" in capsys.readouterr().err


def test_a_live_writer_of_another_host_is_seen_by_its_signs(
  tmp_path, monkeypatch
):
  lock = elsewhere(tmp_path, monkeypatch)
  beat = threading.Timer(0.3, os.utime, [lock])
  beat.start()
  with pytest.raises(ValueError, match="held by process 7 on other since noon"):
    with one_writer.held(tmp_path):
      pass
  beat.join()


def test_a_holder_gives_signs_and_ends_where_its_hold_is_taken(tmp_path):
  taken = """
import sys, time
from synpo_jax.runtime import one_writer
one_writer.BEAT = 0.05
with one_writer.held(sys.argv[1]):
  path = one_writer.pathlib.Path(sys.argv[1], ".lock")
  before = path.stat().st_mtime_ns
  time.sleep(0.5)
  assert path.stat().st_mtime_ns > before
  path.write_text('{"process": 7, "host": "other"}')
  time.sleep(20)
"""
  done = subprocess.run(
    [sys.executable, "-c", taken, str(tmp_path)],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1
  (line,) = done.stderr.splitlines()
  assert "held by process 7 on other" in line and line.endswith("this one ends")


def caption_into(folder):
  c = caption_config.get_config()
  c.model.checkpoint = "synpo_jax/assets/tiny"
  (folder.parent / "x.mp4").write_bytes(b"")
  c.videos, c.root = "x.mp4", str(folder.parent)
  c.output = str(folder / "captions.jsonl")
  caption.run(c, Console())


def judge_into(folder):
  c = pairs.get_config()
  c.stages = "pairs"
  make_pairs.run(c, folder)


COMMANDS = {
  "caption": (".captions.jsonl.lock", caption_into),
  "make_pairs": (".lock-0", judge_into),
  "evaluate": (
    ".lock",
    lambda folder: evaluate.run(eval_shapes.get_config(), folder),
  ),
  "claims": (
    ".lock",
    lambda folder: claims.run(claims_config.get_config(), folder),
  ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_hold_what_they_write(name, tmp_path):
  lock, run = COMMANDS[name]
  with one_writer.held(tmp_path / "run", lock):
    with pytest.raises(ValueError, match=f"held by process {os.getpid()} on"):
      run(tmp_path / "run")


def test_a_full_disk_is_named(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(os, "pwrite", full)
  with pytest.raises(OSError, match=f"No space left.*'{tmp_path}/.lock'"):
    with one_writer.held(tmp_path):
      pass
