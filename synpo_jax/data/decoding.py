"""Decodes many videos in worker processes; a bad one harms only itself."""

import concurrent.futures as futures
import contextlib
import faulthandler
import functools
import itertools
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from synpo_jax.data import several, video
from synpo_jax.data.limits import Limits
from synpo_jax.runtime import stopping

File = Path | several.Parts
Job = tuple[str, File]  # key, file or files
Outcome = tuple[str, video.Clip | str]  # key, clip or the reason of failure
CRASHED = "the decoder crashed on it, or did not come back"
GRACE = 30.0  # seconds beyond the limit, until a decoder's process is ended


def decode(
  jobs: Iterable[Job],
  rule: video.FrameRule,
  preprocess: video.Preprocess,
  workers: int,
  limits: Limits | None,
) -> Iterator[Outcome]:
  """Yields (key, clip, or why there is none) in the order of the jobs.

  At most two clips per worker wait to be taken. A file that kills its worker
  (a fault in a codec) is found by decoding each file that was under way in a
  process of its own; so is one whose decoder does not come back within the
  limits. With 0 workers all happens in this process.
  """
  asked = dict(rule=rule, preprocess=preprocess, limits=limits)
  if workers == 0:
    return ((key, _attempt(path, **asked)) for key, path in jobs)
  task = functools.partial(_watched, grace=GRACE, **asked)
  return _parallel(iter(jobs), task, workers)


def _attempt(path: File, rule, preprocess, limits) -> video.Clip | str:
  try:
    prepare = functools.partial(_prepare, preprocess)
    rule, prepare = video.counted(rule, prepare)
    read = several.read if isinstance(path, several.Parts) else video.read
    return read(path, rule, prepare, limits)
  except (ValueError, OSError) as error:
    return str(error)


def _prepare(form, frame, count):
  return video.preprocess(frame, form, count)


def _watched(path: File, grace, limits, **asked) -> video.Clip | str:
  """As _attempt, but ends this process where a decoder does not come back."""
  with contextlib.ExitStack() as stack:
    if limits is not None:
      nowhere = stack.enter_context(open(os.devnull, "w"))
      faulthandler.dump_traceback_later(
        limits.seconds + grace, exit=True, file=nowhere
      )
      stack.callback(faulthandler.cancel_dump_traceback_later)
    return _attempt(path, limits=limits, **asked)


def _pool(workers: int) -> futures.ProcessPoolExecutor:
  # Not forked: JAX's threads may hold locks.
  return futures.ProcessPoolExecutor(
    workers,
    mp_context=multiprocessing.get_context("spawn"),
    initializer=_follow,
  )


def _follow():
  """Ends this process, a decoder's, with the one that it decodes for.

  Its pool would wait for ever for one that was killed.
  """
  parent = multiprocessing.parent_process()

  def wait():
    parent.join()
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


def _parallel(jobs: Iterator[Job], task, workers: int) -> Iterator[Outcome]:
  pool, waiting = _pool(workers), deque()
  try:
    while True:
      for key, path in itertools.islice(jobs, 2 * workers - len(waiting)):
        waiting.append((key, path, _submit(pool, task, path)))
      if not waiting:
        return
      key, path, future = waiting[0]
      try:
        outcome = future.result()
      except futures.process.BrokenProcessPool:
        pool = _pool(workers)
        yield from ((k, _apart(task, p)) for k, p, _ in waiting)
        waiting.clear()
        continue
      waiting.popleft()
      yield key, outcome
  finally:
    pool.shutdown(wait=False, cancel_futures=True)


def _submit(pool, task, path: File) -> futures.Future:
  """As pool.submit, but a pool that broke since is told by the result."""
  try:
    with stopping.unheard():
      return pool.submit(task, path)
  except futures.process.BrokenProcessPool as error:
    broken = futures.Future()
    broken.set_exception(error)
    return broken


def _apart(task, path: File) -> video.Clip | str:
  with _pool(1) as pool:
    try:
      return _submit(pool, task, path).result()
    except futures.process.BrokenProcessPool:
      return f"{path}: {CRASHED}"
