"""Finished files of a cache, sent to a bucket once and brought from it once.

A cache in a bucket has a folder on each machine, where it is filled and read.
What is finished there has a list (`.jsonl`) that comes last: beside the data
of its name, or in a folder of its own. So it does in the bucket.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from synpo_jax.runtime import buckets, digests
from synpo_jax.runtime.buckets import BucketPath


class Share(NamedTuple):
  """Which part of a work is this process's.

  together: waits, at a place of that name, for all processes.
  """

  index: int
  count: int
  together: Callable[[str], None]


ALONE = Share(0, 1, lambda place: None)


def place(cache: str | Path, name: str) -> tuple[Path, BucketPath | None]:
  """The folder `name` of a cache on this machine, and that in a bucket."""
  cache = buckets.at(cache)
  if not isinstance(cache, BucketPath):
    return cache.resolve() / name, None
  own = hashlib.sha256(str(cache).encode()).hexdigest()[:16]
  return digests.folder().with_name("caches") / own / name, cache / name


def push(folder: Path, remote: BucketPath | None) -> None:
  """Sends what is finished in a folder and not in the bucket."""
  if remote is None:
    return
  there = _names(remote)
  for names in _finished(_names(folder)).values():
    if not there.issuperset(names):
      for name in names:
        buckets.send(folder / name, remote / name)


def put(folder: Path, to: BucketPath) -> None:
  """Sends a folder, whose list (`.jsonl`) goes last, as `to`."""
  names = _names(folder)
  for name in sorted(names, key=lambda name: (name.endswith(".jsonl"), name)):
    buckets.send(folder / name, to / name)


def pull(folder: Path, remote: BucketPath | None) -> None:
  """Brings what is finished in the bucket to a folder, made if absent."""
  if remote is None:
    return
  folder.mkdir(parents=True, exist_ok=True)
  here = _names(folder)
  for unit, names in _finished(_names(remote)).items():
    if here.issuperset(names):
      continue
    if "/" not in names[0]:
      for name in names:
        buckets.fetch(remote / name, folder / name)
      continue
    draft = folder / f"building-{os.getpid()}-{unit}"
    for name in names:
      buckets.fetch(remote / name, draft / name)
    os.rename(draft / unit, folder / unit)
    draft.rmdir()


def _names(folder: Path) -> set[str]:
  found = buckets.files(folder)
  return {path.relative_to(folder).as_posix() for path in found}


def _finished(names: Iterable[str]) -> dict[str, list[str]]:
  """What belongs together, by its name, the list last."""
  units = {}
  for name in sorted(names, key=lambda name: (name.endswith(".jsonl"), name)):
    if not name.startswith(("building-", ".")):
      first = name.partition("/")[0]
      own = first if "/" in name else first.partition(".")[0]
      units.setdefault(own, []).append(name)
  return {
    unit: names
    for unit, names in units.items()
    if len(names) > 1 and names[-1].endswith(".jsonl")
  }
