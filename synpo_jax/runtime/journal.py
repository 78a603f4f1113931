"""JSONL files that only grow: whole rows, one writer, safe to kill.

A row is written with one append and flushed to the disk before the next one
is made, and its last field is a checksum (see `seal`). A process killed in
mid-write leaves at most one torn last line; the next writer finishes it when
nothing but its line feed is missing, and cuts it off otherwise. Rows are
found by key, never by position. A hidden file beside a journal says that it
held a row, so that one that was emptied is not taken for a new one.
"""

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from synpo_jax.runtime import buckets, journal_rows, seal, writing
from synpo_jax.runtime.journal_rows import SEALED, begun, is_sealed, row_of


def read(path: Path | str, key: str = "id") -> dict[str, dict]:
  """Rows of a journal by key, in file order; {} where there is no file.

  A torn last line is passed over. Raises seal.Broken (a ValueError), naming
  file and line, for any other line that is no JSON object, is not as its
  checksum has it, lacks the key or repeats one, and for a file that held rows
  and is empty.
  """
  rows = {}
  for _, row in journal_rows.keyed(path, key, rows):
    rows[row[key]] = row
  return rows


@contextlib.contextmanager
def extend(
  path: Path | str, key: str = "id", *, on_disk: bool = False
) -> Iterator[tuple[Mapping[str, dict], Callable[[dict], None]]]:
  """Yields (rows so far by key, append); the file is locked until the end.

  on_disk: the rows are a journal_rows.Rows, each read when it is asked for.

  `append(row)` returns when the row is on the disk. Raises ValueError when
  another process holds the file, for a row whose key is there already, and
  for a file that is no journal, which stays as it is.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  if not path.exists():  # deleted by someone who wants it so
    begun(path).unlink(missing_ok=True)
  handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
  try:
    _lock(handle, path)
    rows = journal_rows.Rows(path, key) if on_disk else read(path, key)
    _say_unsealed(path)
    _repair(handle, path)
    if rows:
      begun(path).touch()
    _sync_folder(path.parent)

    def append(row):
      if row[key] in rows:
        raise ValueError(f"{path}: {key} {row[key]!r} is there already")
      line = sealed(row)
      write(handle, line, path)
      if not rows:
        begun(path).write_bytes(SEALED)
      if on_disk:
        start = os.fstat(handle).st_size - len(line)
        rows.add(row[key], start, len(line) - 1)
      else:
        rows[row[key]] = row

    yield rows, append
  finally:
    os.close(handle)


def files(name: str) -> tuple[str, str]:
  """The names of a journal's files."""
  return name, begun(Path(name)).name


def rewrite(path: Path | str, rows: Iterable[dict]) -> None:
  """Replaces the rows of a file for other programs in one step: no seals."""
  if is_sealed(Path(path)):
    begun(Path(path)).write_bytes(b"")
  replace(path, b"".join(map(dump, rows)))


def renew(path: Path | str, rows: Iterable[dict]) -> None:
  """Replaces all rows of a journal in one step."""
  lines = [sealed(row) for row in rows]
  if not lines:
    begun(Path(path)).unlink(missing_ok=True)
  replace(path, b"".join(lines))
  if lines:
    begun(Path(path)).write_bytes(SEALED)


def sealed(row: dict) -> bytes:
  """One row as one line of a journal."""
  return seal.put(dump(row)[:-1]) + b"\n"


def replace(path: Path | str, content: bytes) -> None:
  """Writes a file in one step: a reader, or a crash, finds old or new."""
  path = buckets.at(path)
  if isinstance(path, buckets.BucketPath):
    path.write_bytes(content)
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = path.with_name(f".{path.name}.draft")
  try:
    with open(draft, "wb", buffering=0) as handle:
      write(handle.fileno(), content, path)
  except OSError as error:
    draft.unlink(missing_ok=True)
    raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
  os.replace(draft, path)
  _sync_folder(path.parent)


def dump(row: dict) -> bytes:
  """One row as one line; text stays readable, NaN is refused."""
  text = json.dumps(row, ensure_ascii=False, allow_nan=False)
  # A lone surrogate (a torn emoji of some tokenizer) is not valid UTF-8.
  return text.encode("utf-8", "replace") + b"\n"


def _say_unsealed(path):
  old = total = 0
  for line in journal_rows.lines(path):
    if not line.last:
      total += 1
      old += not seal.take(line.content)[1]
  if old:
    print(
      f"{path}: {old} of {total} rows carry no checksum; an earlier "
      "version wrote them",
      file=sys.stderr,
    )


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
  if row_of(torn) is not None:
    write(handle, b"\n", path)
  elif torn.strip(b"\0")[:1] not in (b"", b"{"):
    raise seal.Broken(f"{path}: its end is no JSON row; this is another file")
  else:
    with writing.at(path):
      os.ftruncate(handle, size - len(torn))
      os.fsync(handle)
    print(
      f"{path}: its last line was torn ({len(torn):,} bytes); cut off, to be "
      "made again",
      file=sys.stderr,
    )


def write(handle: int, line: bytes, path: Path) -> None:
  """Appends a line, to the disk. Raises OSError that names the file.

  What a full disk took of a line is taken back.
  """
  size = os.fstat(handle).st_size
  done = 0
  try:
    while done < len(line):
      done += os.write(handle, line[done:])
    os.fsync(handle)
  except OSError as error:
    if done < len(line):
      with contextlib.suppress(OSError):
        os.ftruncate(handle, size)
    raise OSError(error.errno, os.strerror(error.errno), str(path)) from None


def _sync_folder(folder):
  handle = os.open(folder, os.O_RDONLY)
  try:
    with writing.at(folder):
      os.fsync(handle)
  finally:
    os.close(handle)
