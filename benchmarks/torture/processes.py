"""Processes that run a command in a folder: started, watched, signalled."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.torture.commands import Command

ROOT = pathlib.Path(__file__).parents[2]
POLL = 0.003  # seconds
PATIENCE = 600.0  # seconds; a process that takes so long hangs


class Done(NamedTuple):
  """How a process ended: its exit code, None for one that hung; its words."""

  code: int | None
  said: str
  seconds: float


def start(command: Command, folder: pathlib.Path, *more) -> subprocess.Popen:
  """Starts a command; what it says goes into said.txt of the folder."""
  own = (str(ROOT), str(ROOT / "tests" / "support" / "started"))
  kept = ROOT / ".cache" / "compiled"
  environment = {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(kept),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    "HF_HUB_OFFLINE": "1",
    **os.environ,
    "PYTHONPATH": os.pathsep.join(own),
  }
  with open(folder / "said.txt", "wb") as said:
    return subprocess.Popen(
      [sys.executable, "-m", f"synpo_jax.{command.module}"]
      + [*command.arguments, *more],
      cwd=folder,
      env=environment,
      stdout=said,
      stderr=subprocess.STDOUT,
      start_new_session=True,  # so that its helpers can be ended with it
    )


@contextlib.contextmanager
def let_hear() -> Iterator[None]:
  """Commands that are started within hear a hangup, also below nohup.

  A process that ignores a signal hands that on; one that handles it does not.
  """
  before = signal.getsignal(signal.SIGHUP)
  if before is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)
  try:
    yield
  finally:
    signal.signal(signal.SIGHUP, before)


def end_all() -> None:
  """Kills what was started and is at work, with its helpers."""
  for children in pathlib.Path("/proc/self/task").glob("*/children"):
    for number in children.read_text().split():
      with contextlib.suppress(ProcessLookupError):
        os.killpg(int(number), signal.SIGKILL)


def wait_for(process, folder: pathlib.Path, glob: str) -> float:
  """Waits until a file is there, or the process has ended; the seconds."""
  begun = time.monotonic()
  while not any(folder.glob(glob)) and process.poll() is None:
    if time.monotonic() - begun > PATIENCE:
      break
    time.sleep(POLL)
  return time.monotonic() - begun


def finish(process, folder: pathlib.Path) -> Done:
  """Waits for the end of a process, and ends one that hangs."""
  begun = time.monotonic()
  try:
    code = process.wait(PATIENCE)
  except subprocess.TimeoutExpired:
    code = None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
  said = (folder / "said.txt").read_text("utf-8", "replace")
  return Done(code, said, time.monotonic() - begun)


def run(command: Command, folder: pathlib.Path, *more) -> Done:
  """Runs a command to its end."""
  return finish(start(command, folder, *more), folder)


def send(
  process, command: Command, folder, moment: float, number: signal.Signals
) -> bool:
  """Sends a signal so long after the work began; whether it was in time."""
  wait_for(process, folder, command.begins)
  until = time.monotonic() + moment
  while time.monotonic() < until and process.poll() is None:
    time.sleep(POLL)
  if process.poll() is not None:
    return False
  process.send_signal(number)
  return True
