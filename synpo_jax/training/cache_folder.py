"""What the caches of work done once have in common: a folder, many hosts."""

import contextlib
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from synpo_jax.data import records
from synpo_jax.runtime import hosts, progress


@contextlib.contextmanager
def held(folder: Path, what: str):
  """Keeps other runs out of a folder while this one fills it.

  All processes enter alike. The first one removes what killed runs left, and
  says which files are torn; nobody leaves before all are done.
  """
  with contextlib.ExitStack() as stack:
    if hosts.is_first():
      stack.enter_context(records.alone(folder))
      for file in records.clean(folder):
        hosts.say(f"{what}: {file} is torn; what it held is computed anew")
    together(f"{what} cleaned")
    yield
    together(f"{what} filled")


def together(place: str):
  """Waits until all processes are at this place."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(place)


def bar(title: str, total: int):
  """The first process's progress.bar; the others show nothing."""
  if total and hosts.is_first():
    return progress.bar(title, total)
  return contextlib.nullcontext(lambda count=1, note="": None)


def spread(count: int, total: int) -> np.ndarray:
  """At most `count` numbers below `total`, evenly far from each other."""
  points = np.linspace(0, total - 1, min(count, total))
  return np.unique(points.astype(np.int64))
