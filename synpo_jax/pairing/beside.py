"""Judging beside captioning: candidates are judged while others grow.

What is judged here is in the files of the judge's stage like anything that it
judges; that stage runs afterwards, and finds what is left. So whatever goes
wrong here costs time alone.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

from absl import logging

MOST = 64  # rows that wait for the judge, before captioning waits for it
GRACE = 5.0  # seconds for replies that are under way when captioning fails
END = object()


@contextlib.contextmanager
def judging(
  judge: Callable[[Iterator[dict | None]], object] | None,
) -> Iterator[Callable[[dict], None]]:
  """Yields tell(row), for candidates as they are written.

  judge: called in a thread of its own with the rows that arrive, None while
  there is none; None for no judge. When the block ends, all that was told is
  judged first.
  """
  if judge is None:
    yield lambda row: None
    return
  rows, stopped = queue.Queue(MOST), threading.Event()

  def arriving():
    while not stopped.is_set():
      try:
        row = rows.get_nowait()
      except queue.Empty:
        row = None
      if row is END:
        return
      yield row

  def work():
    try:
      judge(arriving())
    except (ValueError, OSError) as error:
      logging.warning(
        "judging beside captioning ended, and begins again after it: %s", error
      )

  thread = threading.Thread(target=work, name="judge", daemon=True)

  def tell(row):
    while thread.is_alive():  # else it is judged afterwards
      with contextlib.suppress(queue.Full):
        rows.put(row, timeout=0.1)
        return

  thread.start()
  try:
    yield tell
    tell(END)
    thread.join()
  finally:
    stopped.set()
    thread.join(GRACE)
