"""Commands that are stopped: killed, told to end, or out of room."""

import functools
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile

from benchmarks.torture import outcomes
from benchmarks.torture.bench import Bench
from benchmarks.torture.commands import COMMANDS, UPDATES
from benchmarks.torture.outcomes import Outcome
from benchmarks.torture.processes import finish, run, send, start, wait_for

DRAWS = 4  # moments, each half the one before, until one is in time
LATE = "done before the signal"
ROOM = 64  # MiB of the small file system


def kill(name: str):
  """A try that kills a command at a random moment and starts it again."""

  def attempt(bench: Bench, folder: pathlib.Path, rng: random.Random):
    _, moment = _signalled(bench, name, folder, rng, signal.SIGKILL)
    what = f"killed {moment:.2f} s into its work" if moment else LATE
    return _again(bench, name, folder, what)

  return attempt


def _signalled(bench: Bench, name: str, folder, rng, number: signal.Signals):
  """Runs a command that a signal meets at work: (its end, seconds into it).

  One that was done is run once more and met sooner; seconds are 0 where every
  signal came late, and the folder is a fresh one.
  """
  command, moment = bench.fresh(name, folder), bench.moment(name, rng)
  for _ in range(DRAWS):
    process = start(command, folder)
    hit = send(process, command, folder, moment, number)
    done = finish(process, folder)
    if hit:
      return done, moment
    clear(folder)
    bench.fresh(name, folder)
    moment /= 2
  return done, 0.0


def kill_while_saving(bench: Bench, folder: pathlib.Path, rng: random.Random):
  """A try that kills a run while it writes a checkpoint."""
  command = bench.fresh("train", folder)
  number, moment = rng.randint(1, UPDATES), rng.uniform(0.0, 0.2)
  process = start(command, folder)
  wait_for(process, folder, f"run/checkpoints/{number}*")
  hit = send(process, command, folder, moment, signal.SIGKILL)
  finish(process, folder)
  what = f"killed {1000 * moment:.0f} ms into checkpoint {number}"
  return _again(bench, "train", folder, what if hit else LATE)


def stop(number: signal.Signals):
  """A try that asks a run to end, and starts it again."""

  def attempt(bench: Bench, folder: pathlib.Path, rng: random.Random):
    done, moment = _signalled(bench, "train", folder, rng, number)
    what = f"{number.name} {moment:.2f} s into its updates" if moment else LATE
    told = "saving after this update", "stopped by", "compiled 1 train steps"
    wrong = outcomes.trouble(done)
    if not wrong and done.code not in (0, 128 + number):
      wrong = f"left with {done.code}"
    if not wrong and not any(words in done.said for words in told):
      wrong = "said nothing of it"
    if wrong:
      return Outcome(False, f"{what}: {wrong}", done.said[-2000:])
    return _again(bench, "train", folder, what)

  return attempt


def fill(name: str, place: str):
  """A try that gives a command's output less room than it needs."""

  def attempt(bench: Bench, folder: pathlib.Path, rng: random.Random):
    command = bench.fresh(name, folder)
    needed = size(bench.path(name) / place)
    room = int(needed * rng.uniform(0.0, 0.8))
    (folder / place).mkdir()
    mount(folder / place)
    try:
      ballast = folder / place / "ballast"
      leave(ballast, room)
      done = run(command, folder)
      ballast.unlink()
      what = f"{room / 1024:.0f} KiB for {needed / 1024:.0f}"
      if done.code != 0:
        found = outcomes.refused(done, ("No space left", "ENOSPC"))
        if found.survived:
          found = outcomes.refused(done, (f"{place}/", f"{place}:"))
        if not found.survived:
          return found._replace(how=f"{what}: {found.how}")
        what = f"{what}: {found.how}"
      return _again(bench, name, folder, what)
    finally:
      unmount(folder / place)

  return attempt


def _again(bench: Bench, name: str, folder: pathlib.Path, what: str):
  """Starts the same command again; it should end as if it were the first."""
  done = run(COMMANDS[name], folder)
  return outcomes.completed(done, bench.is_same(name, folder), what)


def clear(folder: pathlib.Path) -> None:
  """Empties a folder."""
  shutil.rmtree(folder)
  folder.mkdir()


@functools.cache
def can_mount() -> bool:
  """Whether small file systems can be made here."""
  with tempfile.TemporaryDirectory() as place:
    try:
      mount(pathlib.Path(place))
    except OSError:
      return False
    unmount(pathlib.Path(place))
  return True


def mount(place: pathlib.Path) -> None:
  """A small file system in memory. Raises OSError where that may not be."""
  done = subprocess.run(
    ["mount", "-t", "tmpfs", "-o", f"size={ROOM}m", "torture", place],
    capture_output=True,
    text=True,
  )
  if done.returncode:
    raise OSError(f"{place}: cannot mount a tmpfs ({done.stderr.strip()})")


def unmount(place: pathlib.Path) -> None:
  """Takes a file system away, also from processes that are in it."""
  subprocess.run(["umount", "-l", place], check=True)


def release(workdir: pathlib.Path) -> None:
  """Takes away the file systems that tries have not, as they were ended."""
  for place in workdir.glob("tries/*/*"):
    if place.is_mount():
      unmount(place)


def leave(ballast: pathlib.Path, room: int) -> None:
  """Fills a file system but for so many bytes."""
  free = os.statvfs(ballast.parent)
  with ballast.open("wb") as file:
    os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_bsize - room)


def size(place: pathlib.Path) -> int:
  """Bytes of the files in a folder."""
  return sum(x.stat().st_size for x in place.rglob("*") if x.is_file())
