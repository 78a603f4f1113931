"""What a run writes down: metrics.jsonl and TensorBoard event files."""

import json
import pathlib
import time

from tensorboardX import SummaryWriter


def open_log(workdir, *, start_step):
  """Opens `workdir`/metrics.jsonl for rows that follow `start_step`.

  Rows of steps past `start_step` are of a run that was killed before its
  checkpoint; they will be made again, so they are cut off.
  """
  workdir = pathlib.Path(workdir)
  rows_path = workdir / "metrics.jsonl"
  keep = [row for row in read_rows(rows_path) if row["step"] <= start_step]
  partial = rows_path.with_suffix(".partial")
  partial.write_text("".join(json.dumps(row) + "\n" for row in keep))
  partial.replace(rows_path)
  events = SummaryWriter(str(workdir / "events"), purge_step=start_step + 1)
  return Log(rows_path.open("a"), events)


def read_rows(path):
  """Rows of a metrics file; a torn last line (a killed run) is left out."""
  path = pathlib.Path(path)
  if not path.exists():
    return []
  rows = []
  for line in path.read_bytes().splitlines():
    try:
      rows.append(json.loads(line))
    except ValueError:
      break
  return rows


class Log:
  """Two open files."""

  def __init__(self, rows, events):
    self.rows, self.events = rows, events

  def write(self, row):
    """Appends one row: `step` and finite numbers."""
    self.rows.write(json.dumps(row) + "\n")
    self.rows.flush()
    for name, value in row.items():
      if name != "step" and isinstance(value, int | float):
        self.events.add_scalar(name, value, row["step"])

  def close(self):
    """Flushes and closes both files."""
    self.rows.close()
    self.events.close()


class NoLog:
  """What the processes that do not log write to."""

  def write(self, row):
    """Forgets the row."""

  def close(self):
    """Nothing is open."""


class Clock:
  """Time since the last update, and how much of it was spent waiting."""

  def __init__(self):
    self._last, self._waited = time.monotonic(), 0.0

  def waiting(self, function, *args):
    """Calls `function` and counts its time as waiting for data."""
    start = time.monotonic()
    result = function(*args)
    self._waited += time.monotonic() - start
    return result

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
