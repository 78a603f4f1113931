"""JSONL files that only grow: whole rows, one writer, safe to kill.

A row is written with one append and flushed to the disk before the next one
is made. A process killed in mid-write leaves at most one torn last line; the
next writer finishes it when nothing but its line feed is missing, and cuts it
off otherwise. Rows are found by key, never by position.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


def read(path: Path | str, key: str = "id") -> dict[str, dict]:
  """Rows of a journal by key, in file order; {} where there is no file.

  A torn last line is passed over. Raises ValueError, naming file and line,
  for any other line that is no JSON object, lacks the key or repeats one.
  """
  path = Path(path)
  if not path.exists():
    return {}
  lines = path.read_bytes().split(b"\n")
  rows = {}
  for number, line in enumerate(lines, 1):
    if number == len(lines) and _row(line) is None:
      break
    row = _row(line)
    if row is None or not isinstance(row.get(key), str):
      raise ValueError(
        f"{path} line {number}: not a JSON row with a text {key!r}; "
        "remove that line and run again"
      )
    if row[key] in rows:
      raise ValueError(
        f"{path} line {number}: {key} {row[key]!r} is there twice; "
        "remove one of its lines and run again"
      )
    rows[row[key]] = row
  return rows


@contextlib.contextmanager
def extend(
  path: Path | str, key: str = "id"
) -> Iterator[tuple[dict[str, dict], Callable[[dict], None]]]:
  """Yields (rows so far by key, append); the file is locked until the end.

  `append(row)` returns when the row is on the disk. Raises ValueError when
  another process holds the file, for a row whose key is there already, and
  for a file that is no journal, which stays as it is.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
  try:
    _lock(handle, path)
    rows = read(path, key)
    _repair(handle, path)
    _sync_folder(path.parent)

    def append(row):
      if row[key] in rows:
        raise ValueError(f"{path}: {key} {row[key]!r} is there already")
      _write(handle, dump(row))
      rows[row[key]] = row

    yield rows, append
  finally:
    os.close(handle)


@contextlib.contextmanager
def lock(path: Path | str) -> Iterator[None]:
  """Holds a lock file; raises ValueError when another process does."""
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
  try:
    _lock(handle, path)
    yield
  finally:
    os.close(handle)


def rewrite(path: Path | str, rows: Iterable[dict]) -> None:
  """Replaces the rows of a file in one step."""
  replace(path, b"".join(map(dump, rows)))


def replace(path: Path | str, content: bytes) -> None:
  """Writes a file in one step: a reader, or a crash, finds old or new."""
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = path.with_name(f".{path.name}.draft")
  with open(draft, "wb") as handle:
    handle.write(content)
    handle.flush()
    os.fsync(handle.fileno())
  os.replace(draft, path)
  _sync_folder(path.parent)


def dump(row: dict) -> bytes:
  """One row as one line; text stays readable, NaN is refused."""
  text = json.dumps(row, ensure_ascii=False, allow_nan=False)
  # A lone surrogate (a torn emoji of some tokenizer) is not valid UTF-8.
  return text.encode("utf-8", "replace") + b"\n"


def _row(line):
  try:
    row = json.loads(line)
  except ValueError:  # UnicodeDecodeError is one too
    return None
  return row if isinstance(row, dict) else None


def _lock(handle, path):
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    raise ValueError(
      f"{path} is held by another process; wait for it or stop it"
    ) from None


def _repair(handle, path):
  """Ends the file with a line feed: completes or cuts off a torn last line.

  Raises ValueError for a last line that is no beginning of a row.
  """
  size = os.fstat(handle).st_size
  start = size
  tail = b""
  while start > 0 and b"\n" not in tail:
    step = min(start, 1 << 16)
    start -= step
    tail = os.pread(handle, step, start) + tail
  torn = tail[tail.rfind(b"\n") + 1 :]
  if not torn:
    return
  if _row(torn) is not None:
    _write(handle, b"\n")
  elif torn.strip(b"\0")[:1] not in (b"", b"{"):
    raise ValueError(f"{path}: its end is no JSON row; this is another file")
  else:
    os.ftruncate(handle, size - len(torn))
    os.fsync(handle)


def _write(handle, line):
  done = 0
  while done < len(line):
    done += os.write(handle, line[done:])
  os.fsync(handle)


def _sync_folder(folder):
  handle = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)
