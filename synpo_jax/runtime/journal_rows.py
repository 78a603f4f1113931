"""Rows of a journal as they lie on the disk: read line by line, looked up."""

import io
import json
import os
import sqlite3
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from synpo_jax.runtime import buckets, seal

SEALED = b"sealed\n"  # in the hidden file: all rows have a checksum


class Line(NamedTuple):
  """A line of a file, from 1, and where its bytes are; `last`: without end."""

  number: int
  start: int
  content: bytes
  last: bool


def lines(path: Path) -> Iterator[Line]:
  """The lines of a file, one at a time; line feeds are off."""
  start = 0
  with _opened(path) as file:
    for number, content in enumerate(file, 1):
      whole = content.removesuffix(b"\n")
      yield Line(number, start, whole, len(whole) == len(content))
      start += len(content)


def _opened(path: Path):
  if isinstance(path, buckets.BucketPath):
    return io.BytesIO(path.read_bytes())
  return open(path, "rb")


def whole_rows(path: Path) -> Iterator[tuple[int, dict]]:
  """(line, row) of a file whose last line alone may be torn; seals are off.

  Raises seal.Broken (a ValueError), naming file and line, for any other line
  that is no JSON object or is not as its checksum has it, for one without a
  checksum where earlier ones have it, and for a file of zero bytes alone.
  """
  return ((line.number, row) for line, row in _rows(path))


def _rows(path: Path) -> Iterator[tuple[Line, dict]]:
  sealed, blank = is_sealed(path), None
  for line in lines(path):
    content = line.content
    if line.number == 1 and line.last and content and not content.strip(b"\0"):
      raise seal.Broken(
        f"{path}: {len(content):,} zero bytes and nothing else, as after a "
        "power cut; put it back, or delete it to begin anew"
      )
    if not content.strip():  # blank lines at the end are somebody's editor's
      blank = blank or line
      continue
    try:
      if blank is not None:
        line = blank
        raise seal.Broken("not a JSON row")
      if line.last and is_torn(content):
        return
      row, sealed = whole(content, sealed)
    except seal.Broken as error:
      raise seal.Broken(
        f"{path} line {line.number}: {error}; remove that line and run again"
      ) from error
    yield line, row


def keyed(
  path: Path | str, key: str, known: Container[str]
) -> Iterator[tuple[Line, dict]]:
  """Rows and where they lie; none where there is no file.

  known: the keys so far, which the caller adds to. Raises as `whole_rows`, and
  for a row that lacks the key or repeats one, and for a file that held rows and
  is empty.
  """
  path, empty = buckets.at(path), True
  if not path.exists():
    return
  for line, row in _rows(path):
    if not isinstance(row.get(key), str):
      raise seal.Broken(
        f"{path} line {line.number}: not a JSON row with a text {key!r}; "
        "remove that line and run again"
      )
    if row[key] in known:
      raise seal.Broken(
        f"{path} line {line.number}: {key} {row[key]!r} is there twice; "
        "remove one of its lines and run again"
      )
    empty = False
    yield line, row
  if empty and begun(path).exists():
    raise seal.Broken(
      f"{path}: it held rows and now holds none, as if it had been emptied; "
      "put it back, or delete it to begin anew"
    )


class Rows(Mapping):
  """{key: row} of a journal whose rows stay on the disk.

  Where each lies is kept in a file of SQLite's without a name, so that memory
  does not grow with the rows. A row is read, and its checksum compared, when it
  is asked for.
  """

  def __init__(self, path: Path | str, key: str):
    """Raises as `keyed` does."""
    self._path, self._key = Path(path), key
    self._places = sqlite3.connect("", check_same_thread=False)
    self._places.execute(
      "create table places (key text primary key, start integer, size integer)"
      " without rowid"
    )
    self._count = 0
    for line, row in keyed(path, key, self):
      self.add(row[key], line.start, len(line.content))

  def add(self, key: str, start: int, size: int) -> None:
    """Where a row lies, its line feed not counted."""
    put = "insert into places values (?, ?, ?)"
    self._places.execute(put, (key, start, size))
    self._count += 1

  def _place(self, key: str) -> tuple[int, int] | None:
    find = "select start, size from places where key = ?"
    return self._places.execute(find, (key,)).fetchone()

  def __contains__(self, key) -> bool:
    return self._place(key) is not None

  def __getitem__(self, key: str) -> dict:
    place = self._place(key)
    if place is None:
      raise KeyError(key)
    start, size = place
    with self._path.open("rb") as file:
      row, _ = whole(os.pread(file.fileno(), size, start), False)
    if row.get(self._key) != key:
      raise seal.Broken(f"{self._path}: changed while it was read; run again")
    return row

  def __iter__(self) -> Iterator[str]:
    return (key for (key,) in self._places.execute("select key from places"))

  def __len__(self) -> int:
    return self._count


def whole(line: bytes, sealed: bool) -> tuple[dict, bool]:
  """(row, whether it has a checksum); sealed: whether it must.

  Earlier versions wrote none, so rows without one come before all others.
  """
  content, has_one = seal.take(line)
  row = row_of(content)
  if row is None:
    raise seal.Broken("not a JSON row")
  if sealed and not has_one:
    raise seal.Broken("its checksum is gone")
  return row, has_one


def row_of(line: bytes) -> dict | None:
  """The JSON object of a line; None where it is none."""
  try:
    row = json.loads(line.decode())
  except (ValueError, RecursionError):  # UnicodeDecodeError is one too
    return None
  return row if isinstance(row, dict) else None


def is_torn(line: bytes) -> bool:
  """Whether a last line, without its line feed, is no whole row.

  A row with something behind it is whole, and damaged.
  """
  if not line:
    return True
  try:
    json.JSONDecoder().raw_decode(line.decode("utf-8", "replace"))
  except (ValueError, RecursionError):
    return True
  return not line.startswith(b"{")


def begun(path: Path) -> Path:
  """The hidden file that says that a journal held rows."""
  return path.with_name(f".{path.name}.begun")


def is_sealed(path: Path) -> bool:
  """Whether all rows of a journal have checksums."""
  hidden = begun(path)
  return hidden.exists() and hidden.read_bytes() == SEALED
