"""Stored files that are not as they were written: one bit, or cut short."""

import json
import os
import pathlib
import random
import shutil
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.torture import outcomes
from benchmarks.torture.bench import Bench
from benchmarks.torture.commands import UPDATES
from benchmarks.torture.outcomes import Outcome
from benchmarks.torture.processes import run

HALF = 2  # updates, or captions, after which a command was stopped


class Stored(NamedTuple):
  """Files that a command reads when it is started once more.

  globs: which files. command: what reads them. stage: makes the folder of the
  finished command one of an unfinished one. keys: what else than the file or
  its folders a refusal may name. said: what may be said aloud of a loss.
  """

  globs: tuple[str, ...]
  command: str
  stage: Callable[[pathlib.Path], None]
  keys: tuple[str, ...] = ()
  said: str = ""


def half_trained(folder: pathlib.Path) -> None:
  """The run, as it was after half of its updates."""
  for step in (folder / "run/checkpoints").iterdir():
    if int(step.name) > HALF:
      shutil.rmtree(step)
  keep_lines(folder / "run/metrics.jsonl", HALF)


def half_captioned(folder: pathlib.Path) -> None:
  """The captions, half of them."""
  keep_lines(folder / "out/captions.jsonl", HALF)


def half_scored(folder: pathlib.Path) -> None:
  """The evaluation, with half of its captions."""
  keep_lines(folder / "scores/captions.jsonl", HALF)
  for name in ("items.jsonl", "results.json"):
    (folder / "scores" / name).unlink()


def unpaired(folder: pathlib.Path) -> None:
  """The pair run, without its last stage and half of its judgements."""
  keep_lines(folder / "pairs/judgements.jsonl", HALF)
  (folder / "pairs/pairs.jsonl").unlink()


def untrained(folder: pathlib.Path) -> None:
  """The caches alone."""
  shutil.rmtree(folder / "run")


def unexported(folder: pathlib.Path) -> None:
  """The run alone."""
  shutil.rmtree(folder / "made")


def keep_lines(path: pathlib.Path, count: int) -> None:
  """Cuts off all but the first lines of a file."""
  lines = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(b"".join(lines[:count]))


WEIGHTS = ("model.checkpoint", "captioner")
STORED = {
  "checkpoint": Stored(
    (f"run/checkpoints/{HALF}/**/*",), "train", half_trained
  ),
  "exported": Stored(
    (f"run/checkpoints/{UPDATES}/**/*", "run/*.json"),
    "export",
    unexported,
  ),
  "weights": Stored(("captioner/**/*",), "train", half_trained, WEIGHTS),
  "frames": Stored(("shards/*/chunk-*/**/*",), "caches", untrained),
  "features": Stored(("shards/features-*/*.*",), "caches", untrained),
  "references": Stored(("shards/references-*/*.*",), "caches", untrained),
  "metrics": Stored(
    ("run/metrics.jsonl",), "train", half_trained, said="curves will lack them"
  ),
  "config": Stored(("run/*.json",), "train", half_trained),
  "pairs": Stored(
    ("world/pairs.jsonl",), "train", half_trained, ("data.pairs",)
  ),
  "captions": Stored(("out/captions.jsonl",), "caption", half_captioned),
  "scores": Stored(
    ("scores/captions.jsonl", "scores/recipe.json"), "evaluate", half_scored
  ),
  "judgements": Stored(("pairs/*.jsonl",), "make_pairs", unpaired),
}


def flip(content: bytearray, rng: random.Random) -> str:
  """Turns one bit around; says which."""
  bit = rng.randrange(8 * len(content))
  content[bit // 8] ^= 1 << bit % 8
  return f"bit {bit % 8} of byte {bit // 8:,}"


def cut(content: bytearray, rng: random.Random) -> str:
  """Takes the end off; says how much is left."""
  whole, left = len(content), rng.randrange(len(content))
  del content[left:]
  return f"{left:,} of {whole:,} bytes left"


def damage(change: Callable[[bytearray, random.Random], str], name: str):
  """A try that changes one stored file and starts what reads it."""
  stored = STORED[name]

  def attempt(bench: Bench, folder: pathlib.Path, rng: random.Random):
    command = bench.used(stored.command, folder)
    stored.stage(folder)
    path = choose(folder, stored.globs, rng)
    place = path.relative_to(folder)
    what = f"{place}: {spoil(path, change, rng)}"
    done = run(command, folder)
    if done.code != 0:
      found = outcomes.refused(done, (*stored.keys, *names_of(place)))
      return found._replace(how=f"{what}: {found.how}")
    if stored.said and stored.said in done.said:
      return told(bench, stored.command, folder, what)
    is_same = bench.is_same(stored.command, folder)
    return outcomes.completed(done, is_same, what)

  return attempt


def names_of(place: pathlib.PurePath) -> list[str]:
  """What a refusal may call a file: its name, a folder, its workdir first."""
  *folders, top = map(str, place.parents[:-1])
  return [place.name, *folders, f"error: {top} ", f"error: {top}:"]


def told(bench: Bench, name: str, folder: pathlib.Path, what: str) -> Outcome:
  """Survived where nothing but rows that were said to be lost is lost."""
  whole = dict(bench.whole[name]["result"])
  found = json.loads(json.dumps(bench.result(name, folder)))
  rows, left = whole.pop("rows"), found.pop("rows")
  good = whole == found and all(row in rows for row in left)
  end = "the same but for rows that it says are lost"
  how = f"{what}: {end if good else 'another result'}"
  return Outcome(good, how, lost=len(rows) - len(left))


def choose(folder: pathlib.Path, globs, rng: random.Random) -> pathlib.Path:
  """One of the files that are not empty, whatever their sizes."""
  found = {x for glob in globs for x in folder.glob(glob) if x.is_file()}
  return rng.choice(sorted(x for x in found if x.stat().st_size))


def spoil(path: pathlib.Path, change, rng: random.Random) -> str:
  """Changes a file as a bad disk would: its time of writing stays."""
  before, content = path.stat(), bytearray(path.read_bytes())
  what = change(content, rng)
  path.write_bytes(content)
  os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
  return what
