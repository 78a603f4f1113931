"""What a run writes down: metrics.jsonl, and what trackers show of it."""

import contextlib
import json
import math
import os
import pathlib
import sys
import time

from synpo_jax.runtime import buckets, journal, journal_rows, seal
from synpo_jax.training.tracker import Events


def open_log(workdir, *, start_step, trackers=None):
  """Opens `workdir`/metrics.jsonl for rows that follow `start_step`.

  Rows of steps past `start_step` are of a run that was killed before its
  checkpoint; they will be made again, so they are cut off. trackers: those of
  tracking.start; None for TensorBoard's events alone. Raises ValueError for
  rows that cannot be read, and leaves the file as it is.
  """
  workdir = pathlib.Path(workdir)
  path = workdir / "metrics.jsonl"
  kept = keep_rows(path, start_step)
  say_missing(path, kept, range(1, start_step + 1))
  if trackers is None:
    trackers = [Events(workdir / "events", purge_step=start_step + 1)]
  return Log(path, trackers)


def keep_rows(path: pathlib.Path, last: int) -> list[dict]:
  """Drops the rows of steps past `last` from a file; returns those it keeps.

  Raises seal.Broken (a ValueError), naming the line, for rows whose steps do
  not grow.
  """
  kept, before = [], -1
  for number, row in _numbered(path):
    step = row.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step <= before:
      raise seal.Broken(
        f"{path} line {number}: its step is {step!r}, after {before}; put the "
        "file back as it was, or remove that line and run again"
      )
    before = step
    if step <= last:
      kept.append(row)
  journal.replace(path, b"".join(map(_line, kept)))
  return kept


def say_missing(path: pathlib.Path, rows: list[dict], wanted: range) -> None:
  """Says how many rows of these steps a file has lost, if it has."""
  missing = set(wanted) - {row["step"] for row in rows}
  if missing:
    print(
      f"{path}: {len(missing)} of the {len(wanted)} rows up to update "
      f"{wanted[-1]} are not there; curves will lack them",
      file=sys.stderr,
    )


def read_rows(path) -> list[dict]:
  """Rows of a metrics file; a torn last line (a killed run) is left out.

  Raises ValueError, naming the line, for any other that cannot be read.
  """
  return [row for _, row in _numbered(buckets.at(path))]


def append(path: pathlib.Path, row: dict) -> None:
  """Writes one more row, to the disk; what is not finite becomes null.

  Raises OSError that names the file.
  """
  handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
  try:
    journal.write(handle, _line(row), path)
  finally:
    os.close(handle)


def _numbered(path):
  return journal_rows.whole_rows(path) if path.exists() else ()


def _line(row) -> bytes:
  """A row as JSON, which has no NaN and no infinity: they become null."""
  for name, value in row.items():
    if isinstance(value, float) and not math.isfinite(value):
      row = row | {name: None}
  return seal.put(json.dumps(row, allow_nan=False).encode()) + b"\n"


class Log:
  """The rows of a run, and the trackers that show them."""

  def __init__(self, path: pathlib.Path, trackers: list):
    self.path, self.trackers = path, trackers

  def write(self, row):
    """Appends one row, `step` and numbers: to the disk, then to trackers.

    Raises OSError, naming the file, where the disk takes no more.
    """
    append(self.path, row)
    self.track(row)

  def track(self, row):
    """Hands a row that another file holds to the trackers alone."""
    for tracker in self.trackers:
      tracker.write(row)

  def show(self, step, rows):
    """Hands samples.rows to the trackers."""
    for tracker in self.trackers:
      tracker.show(step, rows)

  def close(self):
    """Ends the trackers; rows are on the disk as they are written."""
    for tracker in self.trackers:
      tracker.close()


class NoLog:
  """What the processes that do not log write to."""

  def write(self, row):
    """Forgets the row."""

  def track(self, row):
    """Forgets the row."""

  def show(self, step, rows):
    """Forgets the rows."""

  def close(self):
    """Nothing is open."""


class Clock:
  """Time from the end of an update to that of the next, and how much of it was
  spent waiting for data; what is done aside is no update's time."""

  def __init__(self):
    self._last, self._waited = time.monotonic(), 0.0

  def waiting(self, function, *args):
    """Calls `function` and counts its time as waiting for data."""
    start = time.monotonic()
    result = function(*args)
    self._waited += time.monotonic() - start
    return result

  @contextlib.contextmanager
  def aside(self):
    """Work between updates, as a checkpoint is: it counts for none of them."""
    start = time.monotonic()
    try:
      yield
    finally:
      self._last += time.monotonic() - start

  def lap(self) -> tuple[float, float]:
    """(seconds, seconds of them waited) since the last call."""
    now = time.monotonic()
    seconds, waited = max(now - self._last, 1e-9), self._waited
    self._last, self._waited = now, 0.0
    return seconds, waited


def rates(pairs: float, tokens: float, lap: tuple[float, float]) -> dict:
  """pairs_per_s, tokens_per_s, waiting_share of an update that took a lap."""
  seconds, waited = lap
  return {
    "pairs_per_s": pairs / seconds,
    "tokens_per_s": tokens / seconds,
    "waiting_share": waited / seconds,
  }
