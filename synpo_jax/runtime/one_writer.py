"""One process at a time writes a folder or a file, whatever hosts share it.

On one machine the operating system's lock decides: it goes with its process,
however that ends. File systems that hosts share may not pass such locks on,
so the holder also writes down who it is, and touches the lock file every few
seconds. Another machine that finds one watches whether that goes on. In a
bucket an object takes the lock's place (`lease`).
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator

from synpo_jax.runtime import buckets, holder, lease, writing

BEAT = 5.0  # seconds between two signs of life
WATCH = 30.0  # seconds without one, and the holder is taken for dead
UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


@contextlib.contextmanager
def held(
  folder: pathlib.Path | str,
  name: str = ".lock",
  what: pathlib.Path | str = "",
) -> Iterator[None]:
  """Holds a folder, made if absent, or a part of it, against other writers.

  name: of the lock file in it. what: what is held, for people, if it is not
  the folder. Raises ValueError, in one line with process and host, where
  another one holds it. A process that finds its hold taken, after it slept
  through WATCH seconds, ends at once with 1.
  """
  folder, target = buckets.at(folder), what or folder
  if isinstance(folder, buckets.BucketPath):
    with lease.held(folder / name, target):
      yield
    return
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / name
  handle, supported = _open(path, target)
  try:
    _wait_for_signs(path, target, supported)
    with writing.at(path):
      own = _introduce(handle)
    try:
      with holder.beating(_beat, path, target, own):
        yield
    finally:
      path.unlink(missing_ok=True)
  finally:
    os.close(handle)


def _open(path, target) -> tuple[int, bool]:
  """The lock file, locked, and whether the file system can do that."""
  while True:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    supported = True
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      supported = error.errno not in UNSUPPORTED
      if supported:
        os.close(handle)
        raise holder.refusal(target, _read(path)) from None
    if _is_at(path, handle):  # else its holder has just taken it away
      return handle, supported
    os.close(handle)


def _is_at(path, handle) -> bool:
  try:
    return os.stat(path).st_ino == os.fstat(handle).st_ino
  except FileNotFoundError:
    return False


def _wait_for_signs(path, target, supported):
  """Raises ValueError where a holder that no lock shows is alive."""
  found = _read(path)
  if not found or supported and found.get("machine") == holder.machine():
    return  # that one is gone: its lock is
  print(
    f"{target}: {holder.told(found)} wrote here and may be alive; watching it "
    f"for {WATCH:g} seconds",
    file=sys.stderr,
    flush=True,
  )
  first, begun = _stamp(path), time.monotonic()
  while time.monotonic() - begun < WATCH:
    time.sleep(min(1.0, WATCH / 10))
    if not path.exists():
      return
    if _stamp(path) != first:
      raise holder.refusal(target, found)


def _beat(path, target, own, ended):
  """Touches the lock file until the end, while it is ours."""
  while not ended.wait(BEAT):
    found = _read(path)
    if found and found != own:
      print(
        f"error: {holder.refusal(target, found)}; this one ends",
        file=sys.stderr,
        flush=True,
      )
      os._exit(1)  # what is written is safe to kill; more must not be
    with contextlib.suppress(OSError):  # a full disk, a lost mount: no end
      os.utime(path)


def _introduce(handle) -> dict:
  own = holder.describe()
  os.ftruncate(handle, 0)
  os.pwrite(handle, json.dumps(own).encode(), 0)
  os.fsync(handle)
  return own


def _read(path) -> dict:
  """Who holds it; {} where that cannot be read."""
  try:
    found = json.loads(path.read_text("utf-8"))
  except (OSError, ValueError):
    return {}
  return found if isinstance(found, dict) else {}


def _stamp(path) -> tuple:
  """Changes with every sign of life; opening it asks the file's server."""
  try:
    with open(path, "rb") as file:
      return os.fstat(file.fileno()).st_mtime_ns, file.read()
  except OSError:
    return ()
