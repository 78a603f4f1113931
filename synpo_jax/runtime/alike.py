"""What must be alike in all processes of a run, and is compared."""

import json
from collections.abc import Iterable

import jax
import numpy as np
from jax.experimental import multihost_utils

from synpo_jax.runtime import settings


def gather(table: dict) -> list[dict]:
  """The tables of all processes, in their order; all of them must call it."""
  if jax.process_count() == 1:
    return [table]
  text = json.dumps(table).encode()
  room = int(np.max(multihost_utils.process_allgather(np.int32(len(text)))))
  padded = np.frombuffer(text.ljust(room), np.uint8)
  rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(-1, room)
  return [json.loads(row.tobytes()) for row in rows]


def check(table: dict, free: Iterable[str] = ()) -> None:
  """Raises ValueError, in all processes, where their tables differ.

  table: nested dict of this process. free: keys, or their sections, that may
  differ.
  """
  if said := difference(gather(table), tuple(free)):
    raise ValueError(said)


def difference(tables: list[dict], free: Iterable[str] = ()) -> str | None:
  """The first keys that a process has otherwise than process 0, in words."""
  first = tables[0]
  for process, table in enumerate(tables):
    found = settings.fixed(settings.differences(first, table), free)
    if found:
      keys = ", ".join(
        f"{key} ({then!r} in process 0, {now!r} in process {process})"
        for key, then, now in found
      )
      return f"the processes differ in {keys}; start all with the same"
  return None
