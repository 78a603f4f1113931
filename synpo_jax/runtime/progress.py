"""Progress of long work: a bar with an ETA in a terminal, plain lines else."""

import contextlib
import sys
import time

from rich import progress as rich_progress

SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def bar(title, total, *, done=0):
  """Yields advance(count=1, note=""): call it as items are finished.

  total: items in all. done: items that an earlier run finished; the ETA
  counts only those of this run. `note` is shown behind the bar.
  """
  make = _terminal_bar if sys.stderr.isatty() else _plain_lines
  with make(title, total, done) as advance:
    yield advance


@contextlib.contextmanager
def _terminal_bar(title, total, done):
  columns = (
    rich_progress.TextColumn("{task.description}"),
    rich_progress.BarColumn(),
    rich_progress.MofNCompleteColumn(),
    rich_progress.TimeElapsedColumn(),
    rich_progress.TimeRemainingColumn(),
    rich_progress.TextColumn("{task.fields[note]}"),
  )
  console = rich_progress.Console(stderr=True)
  with rich_progress.Progress(*columns, console=console) as shown:
    task = shown.add_task(title, total=total, completed=done, note="")

    def advance(count=1, note=""):
      shown.update(task, advance=count, note=note)

    yield advance


@contextlib.contextmanager
def _plain_lines(title, total, done):
  start = last = time.monotonic()
  at = done

  def advance(count=1, note=""):
    nonlocal at, last
    at += count
    now = time.monotonic()
    if at < total and now - last < SECONDS_BETWEEN_LINES:
      return
    last = now
    left = (now - start) / max(1, at - done) * (total - at)
    line = f"{title} {at}/{total}, {left:.0f} s left  {note}".rstrip()
    print(line, file=sys.stderr, flush=True)

  yield advance
