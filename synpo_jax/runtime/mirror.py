"""A folder of this machine in the place of one in a bucket, where files grow.

An object cannot grow, so what is written goes to the disk first, as ever, and
what changed goes to the bucket: every FLUSH seconds, before a checkpoint, and
at the end. So a kill loses what FLUSH seconds wrote, and nothing that a
checkpoint counts. Of a file that grows row by row only the end is sent, cut
between rows: `metrics.jsonl`, then `metrics.jsonl.part-OFFSET` and on, of PART
bytes each; at the end it becomes one object again. Any other file is always
one object, and each object appears whole.
"""

import contextlib
import fcntl
import hashlib
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from synpo_jax.runtime import buckets, retold
from synpo_jax.runtime.buckets import BucketPath

FLUSH = 10.0  # seconds between two looks at what changed
PART = 1 << 22  # bytes of an object of a file that grows
SETTLED = 2_000_000_000  # nanoseconds that another file stays as it is, first
STATE = ".bucket"  # in the folder: whose place it takes, what lies there
# What is not brought here: checkpoints, which go to the bucket by themselves,
# and the weights of exports.
APART = re.compile(r"(best/)?checkpoints/|.*\.(safetensors|msgpack)$")
NAMED = re.compile(r"(.+)\.part-(\d{12})")
LOCKS = re.compile(r"\.lock[^/]*\.\d{6}$|\.[^/]*\.lock\.\d{6}$")


@contextlib.contextmanager
def kept(place: str | Path, names: tuple[str, ...] = ()) -> Iterator[Path]:
  """The folder itself, or one on this machine that stands for it.

  names: of the files that are brought here, () for all. Whoever writes
  there must hold it (one_writer). What is said meanwhile, and errors, name
  the place in the bucket.
  """
  place = buckets.at(place)
  if not isinstance(place, BucketPath):
    yield place
    return
  with tempfile.TemporaryDirectory(prefix="synpo-") as temp:
    folder = Path(temp, place.name or "bucket")
    with retold.as_named({str(folder): str(place)}):
      pull(place, folder, names)
      ended = threading.Event()
      pushing = threading.Thread(
        target=_push_often, args=(folder, ended), daemon=True
      )
      pushing.start()
      try:
        yield folder
      finally:
        ended.set()
        pushing.join()
        push(folder, as_one=True)


def address(folder: str | Path) -> BucketPath | None:
  """The place in a bucket that a folder stands for, if it does."""
  if buckets.is_url(folder):
    return None
  folder = Path(folder).absolute()
  for whole in (folder, *folder.parents[:1]):  # `best` is a run in a run's
    if (whole / STATE).exists():
      place = buckets.at(_read(whole / STATE)["place"])
      return place / folder.relative_to(whole).as_posix()
  return None


def pull(place: BucketPath, folder: Path, names: tuple[str, ...]) -> None:
  """Brings what lies in a bucket here, its parts put together.

  names: of the files that are wanted, () for all that a push sends. Raises
  ValueError for a file that lacks a part.
  """
  folder.mkdir(parents=True, exist_ok=True)
  found, known = {}, {}
  every = [path for name in names for path in place.glob(f"{name}*")]
  for path in every if names else place.files():
    name = path.relative_to(place).as_posix()
    part = NAMED.fullmatch(name)
    name, offset = (part[1], int(part[2])) if part else (name, 0)
    apart = APART.match(name) or LOCKS.search(name)
    if name in names or not names and not apart:
      found.setdefault(name, []).append((offset, path))
  for name, parts in found.items():
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    known[name] = _put_together(sorted(parts), file) | _look(file)
  _write(folder / STATE, {"place": str(place), "files": known})


def _put_together(objects: list[tuple[int, BucketPath]], file: Path) -> dict:
  """Writes a file from its parts; returns which they are, and which are old.

  A part of what became one object is old; it may be there after a kill.
  """
  parts, old, size = [], [], 0
  with file.open("wb") as whole:
    for offset, path in objects:
      if offset < size:
        old.append(offset)
        continue
      if offset > size:
        raise ValueError(
          f"{path}: what stands before it, from byte {size:,} on, is gone; put "
          "that back, or delete this to go on without it"
        )
      content = path.read_bytes()
      whole.write(content)
      parts.append(_part_of(offset, content))
      size += len(content)
  return {"parts": parts, "old": old}


def push(folder: str | Path, *, settled: int = 0, as_one: bool = False) -> None:
  """Sends what changed in a folder that stands for one in a bucket.

  settled: nanoseconds since the last change of a file that does not grow.
  as_one: files in parts that were sent from here become one object; what
  others send is theirs. A folder that stands for none is left alone. Raises
  OSError.
  """
  folder = Path(folder)
  if not (folder / STATE).exists():
    return
  with open(folder / STATE, "rb+") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    state = json.load(lock)
    place, known = buckets.at(state["place"]), state["files"]
    try:
      _push_files(folder, place, known, settled, as_one)
    finally:
      lock.seek(0)
      lock.write(json.dumps(state).encode())
      lock.truncate()


def _push_files(folder, place, known, settled, as_one) -> None:
  here = set()
  for file in sorted(buckets.files(folder)):
    name = file.relative_to(folder).as_posix()
    if name == STATE or name.endswith(".draft"):
      continue
    here.add(name)
    now, then = _look(file), known.get(name, {"parts": [], "old": []})
    changed = then | now != then
    is_ours = changed or then.get("own")
    several = as_one and is_ours and len(then["parts"] + then["old"]) > 1
    if several or changed and (_cutter(name) or _is_settled(now, settled)):
      parts = _push(file, place / name, then, now, several)
      known[name] = now | {"parts": parts, "old": [], "own": True}
  for name in known.keys() - here:
    _delete(place / name, known.pop(name))


def _push(file, to, then, now, as_one) -> list:
  """Writes what changed of a file; returns its parts."""
  before, cutter = then["parts"], _cutter(file.name)
  grown = then.get("inode") == now["inode"] and now["size"] >= then["size"]
  kept = []
  if before and grown and cutter and not as_one:
    kept = before if before[-1][1] >= PART else before[:-1]
  start = kept[-1][0] + kept[-1][1] if kept else 0
  pieces = list(_pieces(file, start, PART if grown and not as_one else None))
  parts = kept + [_part_of(*piece) for piece in pieces]
  end = parts[-1][0] + parts[-1][1] if parts else 0
  gone = {offset for offset, *_ in before} | set(then["old"])
  gone -= {offset for offset, *_ in parts}
  for offset in sorted(gone, reverse=True):
    if offset >= end:  # else what is one object now makes it old
      _object(to, offset).unlink(missing_ok=True)
  for (offset, content), part in zip(pieces, parts[len(kept) :], strict=True):
    if part not in before:
      _object(to, offset).write_bytes(content)
  for offset in sorted(gone, reverse=True):
    _object(to, offset).unlink(missing_ok=True)
  return parts


def _delete(to, then) -> None:
  offsets = {offset for offset, *_ in then["parts"]} | set(then["old"])
  for offset in sorted(offsets, reverse=True):
    _object(to, offset).unlink(missing_ok=True)


def _object(to: BucketPath, offset: int) -> BucketPath:
  return to.with_name(f"{to.name}.part-{offset:012d}") if offset else to


def _pieces(
  file: Path, start: int, most: int | None
) -> Iterator[tuple[int, bytes]]:
  """(offset, content) of what a file holds from `start` on, as objects.

  most: bytes of one, where it may be cut; of rows, only whole ones are taken.
  """
  with file.open("rb") as source:
    source.seek(start)
    content = source.read()
  cutter, begin, last = _cutter(file.name), 0, 0
  if cutter is None:
    yield start, content
    return
  for end in cutter(content):
    if most is not None and end - begin > most and last > begin:
      yield start + begin, content[begin:last]
      begin = last
    last = end
  if last > begin or not start + begin:
    yield start + begin, content[begin:last]


def _cutter(name: str) -> Callable[[bytes], Iterator[int]] | None:
  """What says where the rows of a file end; None for one that is whole."""
  if name.endswith(".jsonl"):
    return _line_ends
  return _record_ends if ".tfevents." in name else None


def _line_ends(content: bytes) -> Iterator[int]:
  return (match.end() for match in re.finditer(b"\n", content))


def _record_ends(content: bytes) -> Iterator[int]:
  """Of a TFRecord file: length (8 bytes), its CRC (4), data, its CRC (4)."""
  at = 0
  while at + 12 <= len(content):
    at += 16 + int.from_bytes(content[at : at + 8], "little")
    if at > len(content):
      return
    yield at


def _part_of(offset: int, content: bytes) -> list:
  return [offset, len(content), hashlib.sha256(content).hexdigest()]


def _look(file: Path) -> dict:
  found = file.stat()
  times = {"size": found.st_size, "mtime": found.st_mtime_ns}
  return times | {"inode": found.st_ino}


def _is_settled(now, settled) -> bool:
  return time.time_ns() - now["mtime"] >= settled


def _push_often(folder, ended) -> None:
  """Pushes until the end; what fails is said once, and tried again."""
  failed = False
  while not ended.wait(FLUSH):
    try:
      push(folder, settled=SETTLED)
      failed = False
    except OSError as error:
      if not failed:
        print(f"{error}; trying again", file=sys.stderr, flush=True)
      failed = True


def _read(state: Path) -> dict:
  return json.loads(state.read_bytes())


def _write(state: Path, content: dict) -> None:
  state.write_text(json.dumps(content))
