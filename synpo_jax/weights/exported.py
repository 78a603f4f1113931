"""An exported folder: made beside its place, and put there in one step."""

import contextlib
import ctypes
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from synpo_jax.runtime import buckets, json_file, one_writer, retold, writing

RECORD = "export.json"  # in an export: what it is, and which files are its own
EXCHANGE, HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux


@contextlib.contextmanager
def replacing(out: Path, form: str) -> Iterator[Path]:
  """A new folder to write into, which is `out` when the work is done.

  form: what kind of export it is. Killed at any moment, `out` is what it was
  or whole and new. Raises ValueError, before any work, for an `out` that
  holds something else than an export of this kind, or more, and where
  another export writes it; OSError, which names `out`, on a full disk.

  In a bucket, where nothing happens in one step, the record goes first and
  comes last: a folder without it is no export.
  """
  check(out, form)
  if isinstance(out, buckets.BucketPath):
    with _sending(out, form) as made:
      yield made
    return
  out = out.resolve()  # what a link leads to is replaced, not the link
  with (
    one_writer.held(out.parent, f".{out.name}.lock", out),
    _beside(out) as made,
    writing.at(out),
  ):
    yield made
    _record(made, form)
    check(out, form)  # others may have written meanwhile
    _put(made, out)


@contextlib.contextmanager
def _sending(out: buckets.BucketPath, form: str) -> Iterator[Path]:
  """A folder on this machine, whose files then go to the bucket."""
  with (
    one_writer.held(out.parent, f".{out.name}.lock", out),
    tempfile.TemporaryDirectory(prefix="synpo-") as temp,
  ):
    made = Path(temp, "export")
    made.mkdir()
    with retold.as_named({str(made): str(out)}):
      yield made
      _record(made, form)
    check(out, form)
    (out / RECORD).unlink(missing_ok=True)
    before, now = _files(out), _files(made)
    for name in sorted(now):
      buckets.send(made / name, out / name)
    for name in sorted(before - now):
      (out / name).unlink()
    buckets.send(made / RECORD, out / RECORD)


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
  """A new folder next to `out`, which is gone afterwards."""
  _name_leftovers(out)
  partial = dict(dir=out.parent, prefix=_partial(out))
  with tempfile.TemporaryDirectory(**partial) as temp:
    made = Path(temp, "export")
    made.mkdir()
    yield made


def _partial(out: Path) -> str:
  return f".{out.name}.partial-"


def _name_leftovers(out: Path) -> None:
  for path in sorted(out.parent.iterdir()):
    if path.name.startswith(_partial(out)):
      logging.warning(
        "%s: left by an export that was killed; delete it",
        path,
      )


def check(out: Path, form: str) -> None:
  """Raises ValueError unless `out` may be replaced by an export of a kind."""
  if out.exists() and not out.is_dir():
    raise ValueError(f"--out={out}: is no folder; choose another")
  if not out.exists() or not any(out.iterdir()):
    return
  kept = out / RECORD
  said = json_file.read(kept) if kept.exists() else {}
  if said.get("format") != form:
    what = f"an export as {said['format']}" if "format" in said else "files"
    raise ValueError(
      f"--out={out}: holds {what}, and would not be one export as {form}; "
      "choose a new folder, or delete that one"
    )
  own = said.get("files")
  others = sorted(_files(out) - set(own if isinstance(own, list) else ()))
  if others:
    raise ValueError(
      f"--out={out}: {others[0]} is no part of the export there and would be "
      f"lost{f' with {len(others) - 1} more' * (len(others) > 1)}; move it"
    )


def _files(folder: Path) -> set[str]:
  """Everything in a folder but its record and its folders."""
  found = (path for path in folder.rglob("*") if not path.is_dir())
  if isinstance(folder, buckets.BucketPath):
    found = folder.files()
  names = {path.relative_to(folder).as_posix() for path in found}
  return names - {RECORD}


def _record(made: Path, form: str) -> None:
  """Writes down what was made, and has all of it on the disk."""
  said = {"format": form, "files": sorted(_files(made))}
  (made / RECORD).write_text(json.dumps(said, indent=2) + "\n")
  for path in (*made.rglob("*"), made):
    _sync(path)


def _sync(path: Path) -> None:
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


def _put(made: Path, out: Path) -> None:
  """Puts a folder in the place of nothing, of an empty one, or of another."""
  try:
    made.rename(out)
  except OSError as error:
    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
      raise
    _exchange(made, out)
  _sync(out.parent)


def _exchange(made: Path, out: Path) -> None:
  """Two folders change places in one step, so that neither is ever gone."""
  libc = ctypes.CDLL(None, use_errno=True)
  rename = getattr(libc, "renameat2", None)  # Linux's
  names = os.fsencode(made), os.fsencode(out)
  if rename and not rename(HERE, names[0], HERE, names[1], EXCHANGE):
    return
  why = os.strerror(ctypes.get_errno()) if rename else "this system has no way"
  raise ValueError(
    f"--out={out}: the export there cannot be replaced in one step ({why}); "
    "choose a new folder, or delete that one"
  )
