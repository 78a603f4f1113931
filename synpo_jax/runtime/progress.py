"""Progress of long work: a bar with an ETA in a terminal, plain lines else."""

import contextlib
import sys
import time

from rich import progress as rich_progress

SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def bar(title, total, *, done=0):
  """Yields advance(count=1, note="", usual=True), for items just finished.

  total: items in all. done: items that an earlier run finished; the ETA
  counts only those of this run, from the first call on, which what is done
  once delays (as compiling), and not those that are not `usual`. `note` is
  shown behind the bar.
  """
  make = _terminal_bar if sys.stderr.isatty() else lines
  with make(title, total, done=done) as advance:
    yield advance


@contextlib.contextmanager
def _terminal_bar(title, total, *, done):
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

    def advance(count=1, note="", usual=True):
      shown.update(task, advance=count, note=note)

    yield advance


@contextlib.contextmanager
def lines(title, total, *, done=0):
  """As `bar`, in lines wherever it is."""
  said = before = time.monotonic()
  at, timed, spent = done, 0, 0.0  # timed items took so many seconds

  def advance(count=1, note="", usual=True):
    nonlocal at, said, before, timed, spent
    now = time.monotonic()
    if usual and at > done:
      timed, spent = timed + count, spent + now - before
    at, before = at + count, now
    if at < total and now - said < SECONDS_BETWEEN_LINES:
      return
    said = now
    left = f", {spent / timed * (total - at):.0f} s left" if timed else ""
    print(f"{title} {at}/{total}{left}  {note}".rstrip(), file=sys.stderr)
    sys.stderr.flush()

  yield advance
