"""Batches one after the other, read ahead by grain, from any number on."""

import contextlib

import grain
from absl import flags

from synpo_jax.runtime import stopping

AHEAD = 2  # batches that each reader keeps ready


class Stream:
  """Iterator over batches that reads ahead and knows where it stands.

  Its state is the number of the next batch, so it may go on with another
  number of workers. Worker processes start anew: an entry that uses them
  needs its `if __name__ == "__main__"` guard. The source is a batches.Batches,
  or anything else with a length and arrays, or tuples of them, by number.
  Batches of tokens alone start no workers: there is nothing to read for them.
  """

  def __init__(self, source, workers: int):
    reads = getattr(source, "visual", source) is not None
    self._source, self._workers = source, workers if reads else 0
    self._next, self._batches = 0, None

  def __iter__(self):
    return self

  def __next__(self):
    if self._batches is None:
      batch = self._first()
    else:
      batch = next(self._batches)
    self._next += 1
    return batch

  def _first(self):
    """Starts to read ahead; a stop for this process is none for its workers."""
    quiet = stopping.unheard() if self._workers else contextlib.nullcontext()
    with quiet:
      self._batches = _read_ahead(self._source, self._next, self._workers)
      return next(self._batches)

  def get_state(self) -> dict[str, int]:
    """Where the stream stands, for a checkpoint."""
    return {"next": self._next}

  def set_state(self, state: dict[str, int]):
    """Goes on from a state; batches read ahead are dropped."""
    self.close()
    self._next = int(state["next"])

  def close(self):
    """Stops reading ahead, and its worker processes."""
    if self._batches is not None:
      self._batches.close()
    self._batches = None


def _read_ahead(source, start: int, workers: int):
  dataset = grain.MapDataset.source(source)[start:].to_iter_dataset(
    grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD)
  )
  if not workers:
    return iter(dataset)
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # grain reads one; app.run may not have run
  options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=AHEAD)
  return iter(dataset.mp_prefetch(options))
