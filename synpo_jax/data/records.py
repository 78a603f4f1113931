"""Arrays by key in ArrayRecord files that are there whole or not at all.

A folder holds pairs of files: `x.array_record`, one array a record, and
`x.jsonl`, which says what they are and appears last. Data without such a list
was left by a process that was killed. Every array has a checksum, compared
whenever it is read.
"""

import contextlib
import fcntl
import itertools
import json
import math
import os
import platform
import re
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_dtypes  # noqa: F401  (makes "bfloat16" a name of a dtype)
import numpy as np
from absl import logging
from array_record.python.array_record_module import (
  ArrayRecordReader,
  ArrayRecordWriter,
)

from synpo_jax.runtime import journal, writing

WRITE = "group_size:1,uncompressed"  # any array alone; noise does not shrink
KINDS = "biufcV"  # of dtypes: numbers; bfloat16 and its kin are V
SAID = {"key", "dtype", "shape", "checksum"}  # of every array
FAILED = re.compile(r"\w+\(\) failed: [^;]*")  # of the system's calls
READ = "readahead_buffer_size:0,max_parallelism:0"  # any order


class Damaged(ValueError):
  """What is stored is not what was written; the text says what to do."""


class Entry(NamedTuple):
  """Where an array is stored, and what it is."""

  file: str
  record: int
  dtype: str
  shape: tuple[int, ...]
  checksum: int


@contextlib.contextmanager
def alone(folder: Path):
  """Holds a folder, which is made if absent; others say so and wait here.

  The lock is the operating system's: it goes with the process that holds it.
  """
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / "lock", "a+") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      lock.seek(0)
      holder = lock.read(200).strip() or "another process"
      logging.warning(
        "%s: waiting for %s, which fills this folder", folder, holder
      )
      fcntl.flock(lock, fcntl.LOCK_EX)
    with writing.at(folder / "lock"):
      lock.truncate(0)
      lock.write(f"process {os.getpid()} on {platform.node()}")
      lock.flush()
    yield


@contextlib.contextmanager
def writing_to(place: Path):
  """Work with ArrayRecord, whose errors of writing become OSErrors here."""
  try:
    with writing.at(place):
      yield
  except RuntimeError as error:
    if not (match := FAILED.search(str(error))):
      raise
    raise OSError(
      f"{place}: cannot be written ({match.group()}); make room there and "
      "start again"
    ) from error


def write(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Stores arrays in a new file; returns when all of it is on the disk.

  Raises OSError, one line that names it, where that cannot be.
  """
  data = folder / f"{uuid.uuid4().hex}.array_record"
  rows = []
  with writing_to(data):
    writer = ArrayRecordWriter(str(data), WRITE)
    for key, array in arrays.items():
      content = np.ascontiguousarray(array).tobytes()
      writer.write(content)
      what = {"dtype": array.dtype.name, "shape": array.shape}
      rows.append({"key": key, **what, "checksum": zlib.crc32(content)})
    writer.close()
    with open(data, "rb") as file:
      os.fsync(file.fileno())
  rows.insert(0, {"bytes": data.stat().st_size, "arrays": len(rows)})
  journal.rewrite(data.with_suffix(".jsonl"), rows)


def write_all(
  folder: Path, arrays: Iterable[tuple[str, np.ndarray]], chunk: int
) -> None:
  """Stores arrays as they come, `chunk` of them in a file."""
  arrays = iter(arrays)
  while some := dict(itertools.islice(arrays, chunk)):
    write(folder, some)


def inventory(folder: Path) -> dict[str, Entry]:
  """What a folder holds, by key; files that `clean` would remove left out."""
  entries = {}
  for listed in sorted(folder.glob("*.jsonl")):
    for number, row in enumerate(_rows(listed) or ()):
      what = row["dtype"], tuple(row["shape"]), row["checksum"]
      file = str(listed.with_suffix(".array_record"))
      entries[row["key"]] = Entry(file, number, *what)
  return entries


def clean(folder: Path) -> list[str]:
  """Removes leftovers and torn files; returns the names of the torn ones.

  Only for who holds the folder: a file may be unlisted because it grows.
  """
  torn = [x for x in sorted(folder.glob("*.jsonl")) if _rows(x) is None]
  for listed in torn:
    listed.unlink()
  for data in folder.glob("*.array_record"):
    if not data.with_suffix(".jsonl").exists():
      data.unlink()
  return [str(x.with_suffix(".array_record")) for x in torn]


def _rows(listed: Path) -> list[dict] | None:
  """The list of a file's arrays; None where list or file are torn."""
  data = listed.with_suffix(".array_record")
  try:
    lines = listed.read_text("utf-8").splitlines()
    head, *rows = (json.loads(line) for line in lines)
    whole = head["arrays"] == len(rows)
    whole = whole and data.stat().st_size == head["bytes"]
    whole = whole and all(map(_says_all, rows))
  except (ValueError, LookupError, TypeError, OSError, RecursionError):
    return None
  return rows if whole else None


def _says_all(row) -> bool:
  """Whether a line says what an array is, in values that can be meant."""
  if not isinstance(row, dict) or not row.keys() >= SAID:
    return False
  shape, dtype = row["shape"], row["dtype"]
  named = isinstance(row["key"], str) and isinstance(dtype, str)
  return (
    named
    and isinstance(shape, list)
    and all(map(_is_count, (*shape, row["checksum"])))
    and np.dtype(dtype).kind in KINDS  # TypeError for what is no dtype
    and np.dtype(dtype).itemsize * math.prod(shape) < 2**63
  )


def _is_count(value) -> bool:
  return type(value) is int and 0 <= value < 2**63


class Reader:
  """Stored arrays by number; opens its files where it is used.

  Only entries travel to worker processes, not open files.
  """

  def __init__(self, entries: Sequence[Entry]):
    self._entries, self._files = list(entries), {}

  def __len__(self) -> int:
    return len(self._entries)

  def __getstate__(self):
    return self.__dict__ | {"_files": {}}

  def file(self, number: int) -> str:
    """Name of the file that holds an array."""
    return self._entries[number].file

  def __call__(self, number: int) -> np.ndarray:
    """The array; raises Damaged where it is not as it was written."""
    entry = self._entries[number]
    content = self._content(entry)
    if zlib.crc32(content) != entry.checksum:
      raise damaged(entry, "its checksum differs")
    size = math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
    if len(content) != size:
      raise damaged(
        entry,
        f"{len(content)} bytes are no {entry.dtype} of {list(entry.shape)}",
      )
    return np.frombuffer(content, entry.dtype).reshape(entry.shape)

  def _content(self, entry: Entry) -> bytes:
    try:
      if entry.file not in self._files:
        self._files[entry.file] = ArrayRecordReader(entry.file, READ)
      return self._files[entry.file].read([entry.record])[0]
    except (RuntimeError, IndexError) as error:  # what array_record raises
      raise damaged(entry, str(error).split(";")[0]) from error


def damaged(entry: Entry, why: str) -> Damaged:
  """The error of an array that must not be used."""
  return Damaged(
    f"{entry.file}, record {entry.record}: {why}; delete that file and start "
    "again, what it held is computed anew"
  )
