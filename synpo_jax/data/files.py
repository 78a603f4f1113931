"""Files of rows: JSON lines, a JSON array, Parquet, Arrow, packed or not.

What a file is, its first bytes say; its name does not matter. A row comes
with its place, so that whatever is said of it names the file and the row.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from synpo_jax.data import tables
from synpo_jax.data.media import Fault
from synpo_jax.runtime import buckets, file_kinds, hub, json_file, shipped

LONGEST = 1 << 26  # bytes of a line: 64 MiB
LARGEST = 1 << 32  # bytes of a JSON array, which is read whole: 4 GiB
TABLES = {
  "Parquet": tables.parquet_rows,
  "Arrow": tables.arrow_rows,
  "an Arrow stream": tables.arrow_rows,
}


class Place(NamedTuple):
  """Where a row stands, counted from 1."""

  file: Path
  unit: str  # "line" or "row"
  number: int

  def __str__(self):
    return f"{self.file}:{self.number}"


def find(wanted: str | Path) -> list[Path]:
  """The files of rows that a path or a glob stands for, in order of name.

  A folder has to be one that `datasets.save_to_disk` made; a glob passes over
  others.

  A name hf://owner/name/path is of a data set of the hub (hub.rows).

  Raises:
    FileNotFoundError: nothing is there.
    ValueError: it is another folder.
    OSError: the hub does not hand it out.
  """
  if str(wanted).startswith("hf://"):
    wanted = hub.rows(str(wanted))
  path = shipped.find(wanted)
  if path.exists():
    return _files(path)
  found = buckets.matching(str(wanted))
  held = [p for p in found if p.is_file() or tables.is_saved(p)]
  if not held:
    raise FileNotFoundError(f"{path}: no such file of pairs")
  files = (file for place in sorted(held) for file in _files(place))
  return list(dict.fromkeys(files))


def _files(path: Path) -> list[Path]:
  if not path.is_dir():
    return [path]
  if not tables.is_saved(path):
    raise ValueError(
      f"{path}: is a folder; name the file of pairs in it, or all of a kind, "
      f"as {path}/*.parquet"
    )
  return tables.saved_files(path)


def stream(path: Path) -> Iterator[tuple[Place, dict[str, Any] | Fault]]:
  """(place, row) of a file; a Fault stands for a row that is no object.

  Blank lines are passed over, and counted in the numbers of the others.

  Raises:
    ValueError: one line with the file, for one of another kind, or one that
      is damaged or cut short.
  """
  with path.open("rb") as file:
    kind = file_kinds.binary(file.read(file_kinds.HEAD))
  if kind in TABLES:
    for number, row in enumerate(TABLES[kind](path), 1):
      yield Place(path, "row", number), row
    return
  with _opened(path, kind) as file:
    try:
      yield from _json_rows(path, file)
    except (gzip.BadGzipFile, zlib.error, EOFError, pa.ArrowException) as error:
      raise _cut(path, kind, error) from error
    except OSError as error:
      if error.errno is not None or kind is None:  # the disk's, not pyarrow's
        raise
      raise _cut(path, kind, error) from error


def _cut(path: Path, kind: str, error: Exception) -> ValueError:
  return ValueError(
    f"{path}: its {kind} is damaged or cut short ({error}); bring it here anew"
  )


def _opened(path: Path, kind: str | None) -> io.BufferedReader:
  """The file, unpacked on the way, if it is packed."""
  local = not isinstance(path, buckets.BucketPath)
  if kind == "gzip":
    return io.BufferedReader(gzip.open(path if local else path.open("rb")))
  if kind == "zstd":
    packed = tables.opened(path)
    return io.BufferedReader(pa.CompressedInputStream(packed, "zstd"))
  return path.open("rb") if local else io.BufferedReader(path.open("rb"))


def _json_rows(path: Path, file: io.BufferedReader):
  head = file.peek(file_kinds.HEAD)
  if file_kinds.is_array(head):
    return _elements(path, file)
  file_kinds.check_head(path, head)
  return _lines(path, file)


def _lines(path: Path, file: io.BufferedReader):
  number = 0
  while line := file.readline(LONGEST + 1):
    if len(line) > LONGEST:
      raise ValueError(
        f"{path}:{number + 1}: is a line of more than {LONGEST >> 20} MiB"
      )
    for part in line.splitlines():  # an old Mac's returns end lines, too
      number += 1
      if part.strip():
        yield Place(path, "line", number), _object(part)


def _elements(path: Path, file: io.BufferedReader):
  """Rows of a JSON array, up to the first that cannot be read."""
  content = file.read(LARGEST + 1)
  if len(content) > LARGEST:
    raise ValueError(
      f"{path}: is a JSON array of more than {LARGEST >> 30} GiB; write one "
      f"object a line (jq -c '.[]' {path.name})"
    )
  try:
    text = content.decode("utf-8-sig")
  except UnicodeDecodeError:
    raise ValueError(f"{path}: is not UTF-8 text") from None
  at, number = _past(text, text.index("[") + 1), 1
  goes_on = text[at : at + 1] != "]"
  while goes_on:
    row, end = _element(text, at)
    yield Place(path, "row", number), row
    if end is None:
      return
    at, number = _past(text, end), number + 1
    goes_on = text[at : at + 1] == ","
    at = _past(text, at + 1) if goes_on else at
  if text[at : at + 1] != "]" or text[at + 1 :].strip():
    what = "is no part of the array" if at < len(text) else "is cut short"
    yield Place(path, "row", number), Fault(f"{what}, at character {at + 1}")


def _element(text: str, at: int):
  """The object of an array that begins at a character, and where it ends."""
  try:
    row, end = DECODER.raw_decode(text, at)
  except UNREAD as error:  # where it ends is not known
    return _fault(error, line=getattr(error, "lineno", 0)), None
  return _checked(row), end


def _past(text: str, at: int) -> int:
  """The first character from `at` on that is no space of JSON."""
  while text[at : at + 1] in (" ", "\t", "\n", "\r"):
    at += 1
  return at


def _object(line: bytes) -> dict[str, Any] | Fault:
  """The JSON object of a line, none of whose keys stands twice."""
  try:
    return _checked(DECODER.decode(line.decode("utf-8-sig")))
  except UNREAD as error:
    return _fault(error)


def _fault(error: Exception, line: int = 0) -> Fault:
  """Why JSON cannot be read; line: where in it, unless it is of one line."""
  if isinstance(error, UnicodeDecodeError):
    return Fault("is not UTF-8 text")
  if isinstance(error, json.JSONDecodeError):
    where = f"line {line} " if line else ""
    return Fault(f"is not JSON: {error.msg} at {where}column {error.colno}")
  if isinstance(error, json_file.Twice):
    return Fault(f"{error} in it")
  return Fault("is JSON too deep, or a number too long, to read")


def _checked(row: Any) -> dict[str, Any] | Fault:
  if isinstance(row, dict):
    return row
  return Fault(f"is a JSON {type(row).__name__}, not an object")


DECODER = json.JSONDecoder(object_pairs_hook=json_file.once)
UNREAD = (ValueError, RecursionError)  # what it raises, Python's limits too
