"""One process at a time writes a place in a bucket, where no lock can be.

The owner keeps an object that says who it is, and writes it anew every few
seconds. Owners are numbered: who takes over makes the object of the next
number, which the store lets one of several do, so the highest number owns.
Numbers never come again: at its end an owner leaves its object, marked.
"""

import contextlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from synpo_jax.runtime import holder
from synpo_jax.runtime.buckets import BucketPath

BEAT = 10.0  # seconds between two signs of life
WATCH = 45.0  # seconds without one, and the owner is taken for dead
NUMBER = re.compile(r"\.(\d{6})")


@contextlib.contextmanager
def held(place: BucketPath, target: str | Path) -> Iterator[None]:
  """Holds a place against other writers until the end.

  place: what the objects are named after. target: what is held, for people.
  Raises ValueError, in one line, where another one holds it. A process that
  finds its hold taken, after it slept through WATCH seconds, ends with 1.
  """
  mine, own = _take(place, target)
  try:
    with holder.beating(_beat, place, target, mine, own):
      yield
  finally:
    _write(mine, own | {"ended": True})


def _take(place, target) -> tuple[BucketPath, dict]:
  """Makes the next owner's object; returns it and what it says."""
  last, found = _newest(place)
  if last and not found.get("ended"):
    _wait_for_signs(place, target, last, found)
  number = int(last.name[-6:]) + 1 if last else 1
  mine = place.with_name(f"{place.name}.{number:06d}")
  own = _describe()
  try:
    mine.create(json.dumps(own).encode())
  except FileExistsError:
    found = _read(mine)
    if found.get("token") != own["token"]:  # else asked twice of the store
      raise holder.refusal(target, found) from None
  last, found = _newest(place)
  if found.get("token") != own["token"]:  # of a store that lets several
    raise holder.refusal(target, found)
  for path in _numbered(place):
    if path != mine:
      path.unlink(missing_ok=True)
  return mine, own


def _wait_for_signs(place, target, last, found) -> None:
  """Raises ValueError where an owner is alive; returns when it is not."""
  if _is_gone(found):
    return
  print(
    f"{target}: {holder.told(found)} wrote here and may be alive; watching it "
    f"for {WATCH:g} seconds",
    file=sys.stderr,
    flush=True,
  )
  begun = time.monotonic()
  while time.monotonic() - begun < WATCH:
    time.sleep(min(2.0, WATCH / 10))
    newest, now = _newest(place)
    if now.get("ended"):
      return
    if (newest, now) != (last, found):
      raise holder.refusal(target, now)


def _beat(place, target, mine, own, ended) -> None:
  """Writes the object anew until the end, while it is the newest."""
  count = 0
  while not ended.wait(BEAT):
    count += 1
    with contextlib.suppress(OSError):  # a store that is away: no end
      _, found = _newest(place)
      if found.get("token", own["token"]) != own["token"]:
        print(
          f"error: {holder.refusal(target, found)}; this one ends",
          file=sys.stderr,
          flush=True,
        )
        os._exit(1)  # what is written is safe to kill; more must not be
      _write(mine, own | {"beat": count})


def _describe() -> dict:
  token = uuid.uuid4().hex
  return holder.describe() | {"token": token, "started": _started(os.getpid())}


def _is_gone(found) -> bool:
  """Whether a process of this very machine is known to have ended."""
  if found.get("machine") != holder.machine():
    return False
  then = found.get("started") or [None]
  here = _started(os.getpid())
  if not here or then[0] != here[0]:  # another container's processes
    return False
  return _started(found["process"]) != then


def _started(process: int) -> list[str]:
  """Which namespace counts processes, and when this one began; [] for none."""
  try:
    stat = Path(f"/proc/{process}/stat").read_text("ascii", "replace")
    state, *fields = stat.rpartition(")")[2].split()
  except OSError:
    return []
  if state == "Z":
    return []
  return [os.readlink("/proc/self/ns/pid"), fields[18]]


def _numbered(place) -> list[BucketPath]:
  """The objects of all owners, in order."""
  found = place.parent.glob(f"{place.name}.*")
  begin = len(place.name)
  return sorted(x for x in found if NUMBER.fullmatch(x.name[begin:]))


def _newest(place) -> tuple[BucketPath | None, dict]:
  """The object of the last owner, and what it says."""
  paths = _numbered(place)
  return (paths[-1], _read(paths[-1])) if paths else (None, {})


def _read(path) -> dict:
  try:
    found = json.loads(path.read_bytes())
  except (FileNotFoundError, ValueError):
    return {}
  return found if isinstance(found, dict) else {}


def _write(path, said) -> None:
  path.write_bytes(json.dumps(said).encode())
