"""TensorBoard event files: a view of metrics.jsonl that may fail.

Events are written at once and by us, one file per start, with the library's
own record writer: no thread and no queue that a full disk could block. What
cannot be written is said once; the run goes on. The library is imported where
it is used, as it imports PyTorch if that is installed.
"""

import pathlib
import sys
import time

FLUSH_SECONDS = 5.0


class Events:
  """Scalars by step."""

  def __init__(self, folder: pathlib.Path, *, purge_step: int):
    """purge_step: rows of this step and later, of earlier starts, are void."""
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import SessionLog

    self._folder, self._writer, self._flushed = folder, None, 0.0
    with _Guard(self):
      folder.mkdir(parents=True, exist_ok=True)
      self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
      start = SessionLog(status=SessionLog.START)
      self._put(step=purge_step, session_log=start)

  def write(self, row: dict) -> None:
    """Adds the numbers of a row, while that can be done; flushes at times."""
    from tensorboardX.summary import scalar

    with _Guard(self):
      for name, value in row.items():
        if name != "step" and isinstance(value, int | float):
          self._put(step=row["step"], summary=scalar(name, value))
      if time.monotonic() - self._flushed > FLUSH_SECONDS and self._writer:
        self._writer.flush()
        self._flushed = time.monotonic()

  def show(self, step: int, rows: list[dict]) -> None:
    """Adds captions, {video, frames, before, now}, while that can be done."""
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import text

    with _Guard(self):
      for number, row in enumerate(rows):
        tag = f"samples/{number}"
        told = f"**{row['video']}**\n\n{row['now']}"
        if row["before"] is not None:
          told += f"\n\nbefore: {row['before']}"
        self._put(step=step, summary=text(tag, told))
        if row["frames"]:
          png = pathlib.Path(row["frames"]).read_bytes()
          image = Summary.Image(encoded_image_string=png)
          value = Summary.Value(tag=f"{tag}/frames", image=image)
          self._put(step=step, summary=Summary(value=[value]))

  def close(self) -> None:
    """Ends the file."""
    with _Guard(self):
      if self._writer:
        self._writer.close()
      self._writer = None

  def _put(self, **event):
    from tensorboardX.proto.event_pb2 import Event

    if self._writer:
      self._writer.write_event(Event(wall_time=time.time(), **event))

  def _fail(self, error):
    self._writer = None
    print(
      f"{self._folder}: no more events for TensorBoard in this run "
      f"({error.strerror or error}); metrics.jsonl has every row",
      file=sys.stderr,
      flush=True,
    )


class _Guard:
  """Takes errors of the disk to Events, which goes on without."""

  def __init__(self, events):
    self._events = events

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    if isinstance(error, OSError):
      self._events._fail(error)
      return True
    return False
