"""Rows on their way to a tracker's own process, which nothing waits for."""

import contextlib
import json
import pathlib
import queue
import subprocess
import sys
import threading
import time

from synpo_jax.training import tracker_clients

MOST = 10_000  # messages that may wait
WAIT_SECONDS = 60.0  # at the end, for a tracker to have them all


class Relay:
  """A tracker's client at work in another process, and what it is to get."""

  def __init__(self, name: str, start: dict):
    """start: project, id, name and config of the run, and its folder."""
    self._name, self._queue = name, queue.Queue(MOST)
    logs = pathlib.Path(start["folder"], "trackers")
    logs.mkdir(parents=True, exist_ok=True)
    with open(logs / f"{name}.log", "ab") as log:
      self._process = subprocess.Popen(
        [sys.executable, "-P", tracker_clients.__file__, name],
        stdin=subprocess.PIPE,
        stdout=2,
        stderr=log,
        start_new_session=True,  # Ctrl-C is not for it
      )
    self._thread = threading.Thread(target=self._pump, daemon=True)
    self._thread.start()
    self._put({"start": start})

  def write(self, row: dict) -> None:
    """Hands the numbers of a row over; returns at once."""
    numbers = {
      key: value
      for key, value in row.items()
      if isinstance(value, int | float) and not isinstance(value, bool)
    }
    self._put({"row": numbers})

  def show(self, step: int, rows: list[dict]) -> None:
    """Hands captions over, {video, frames, before, now}; returns at once."""
    self._put({"samples": {"step": step, "rows": rows}})

  def close(self) -> None:
    """Waits until the tracker has everything, WAIT_SECONDS at most."""
    until = time.monotonic() + WAIT_SECONDS
    self._put({"end": True})
    self._thread.join(WAIT_SECONDS)
    try:
      self._process.wait(max(until - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
      _say(f"{self._name}: not done after {WAIT_SECONDS:g} s, and ended")

  def _put(self, message):
    if self._queue is None:
      return
    try:
      self._queue.put_nowait(message)
    except queue.Full:
      self._queue = None
      _say(f"{self._name}: {MOST:,} rows behind; it gets no more of them")

  def _pump(self):
    waiting, into = self._queue, self._process.stdin
    message = {}
    try:
      while "end" not in message:
        message = waiting.get()
        into.write(json.dumps(message).encode() + b"\n")
        into.flush()
    except BrokenPipeError:  # it has said why
      self._queue = None
    with contextlib.suppress(BrokenPipeError):
      into.close()


def _say(line):
  print(f"{line}; metrics.jsonl has every row", file=sys.stderr, flush=True)
