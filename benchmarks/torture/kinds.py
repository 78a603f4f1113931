"""Every kind of fault: what is done, how often, and what counts as survived."""

import pathlib
import random
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.torture import bad_inputs, damage, interruptions
from benchmarks.torture.bench import Bench
from benchmarks.torture.outcomes import Outcome
from synpo_jax.runtime import stopping

Attempt = Callable[[Bench, pathlib.Path, random.Random], Outcome]

SAME = "the same command goes on and leaves the same bytes"
BITS = "the same command goes on to the same rows and the same bits"
REFUSED = "the same result, or one line that names the file"
ONE_LINE = "one line (and a list below it), an exit code not 0, within a minute"
FULL = "one line and no hang; with room again, the same result"
STOPPED = f"saves and says so, or ends in one line; {BITS}"


class Kind(NamedTuple):
  """A kind of fault. attempts: one for each try. commands: what they need."""

  said: str
  survived: str
  attempts: tuple[Attempt, ...]
  commands: tuple[str, ...]
  is_root: bool = False


def kinds() -> dict[str, Kind]:
  """All kinds, by the names that --only takes."""
  return {**_kills(), **_stops(), **_damages(), **_full(), **_bad()}


def plan(chosen: dict[str, Kind], tries: int | None) -> list[tuple[str, int]]:
  """(kind, number) of all tries: the first of each kind, then the second.

  tries: at most so many of each.
  """
  most = max(len(kind.attempts) for kind in chosen.values())
  most = most if tries is None else min(most, tries)
  return [
    (name, number)
    for number in range(most)
    for name, kind in chosen.items()
    if number < len(kind.attempts)
  ]


def _kills() -> dict[str, Kind]:
  result = {}
  for name, (said, tries) in KILLED.items():
    means = BITS if name in ("train", "caches") else SAME
    attempts = (interruptions.kill(name),) * tries
    result[f"kill-{name}"] = Kind(
      f"kill -9 of {said}", means, attempts, (name,)
    )
  attempts = (interruptions.kill_while_saving,) * 8
  said = "kill -9 within the saving of a checkpoint"
  result["kill-saving"] = Kind(said, BITS, attempts, ("train",))
  return result


KILLED = {
  "train": ("`train` between updates", 6),
  "caches": ("`train` while it fills its caches", 6),
  "caption": ("`caption`", 6),
  "evaluate": ("`evaluate` (eval_shapes)", 5),
  "make_pairs": ("`make_pairs`", 6),
  "export": ("`export`", 5),
}


def _stops() -> dict[str, Kind]:
  return {
    f"stop-{number.name}": Kind(
      f"{number.name} to `train`",
      STOPPED,
      (interruptions.stop(number),) * 4,
      ("train",),
    )
    for number in stopping.SIGNALS
  }


TOLD = {  # what is stored, and what reads it
  "checkpoint": "a checkpoint that `train` goes on from",
  "exported": "a run that `export` reads",
  "weights": "the captioner's folder, of a run half done",
  "frames": "stored frames",
  "features": "stored features",
  "references": "stored log-probs of the reference",
  "metrics": "metrics.jsonl",
  "config": "config.json and identity.json of a run",
  "pairs": "the pairs of a run half done",
  "captions": "captions.jsonl of `caption`",
  "scores": "captions.jsonl and recipe.json of `evaluate`",
  "judgements": "the files of `make_pairs`",
}
LOST = f"{REFUSED}; a line also where rows of curves are lost"


def _damages() -> dict[str, Kind]:
  ways = {
    "flip": ("one bit flipped in", damage.flip, 6),
    "cut": ("cut short:", damage.cut, 4),
  }
  return {
    f"{way}-{name}": Kind(
      f"{words} {TOLD[name]}",
      LOST if stored.said else REFUSED,
      (damage.damage(change, name),) * tries,
      (stored.command,),
    )
    for way, (words, change, tries) in ways.items()
    for name, stored in damage.STORED.items()
  }


FILLED = {  # the command, and the folder that it writes
  "train": ("`train`", "run"),
  "caches": ("the caches of `train`", "shards"),
  "caption": ("`caption`", "out"),
  "evaluate": ("`evaluate` (eval_shapes)", "scores"),
  "export": ("`export`", "made"),
  "make_pairs": ("`make_pairs`", "pairs"),
}


def _full() -> dict[str, Kind]:
  return {
    f"full-{name}": Kind(
      f"disk full (tmpfs) under {said}",
      FULL,
      (interruptions.fill(name, place),) * 4,
      (name,),
      is_root=True,
    )
    for name, (said, place) in FILLED.items()
  }


def _bad() -> dict[str, Kind]:
  said = {
    "rows": "pairs that are none: {} kinds of files and rows",
    "videos": "videos that are none: {} kinds",
    "weights": "captioner folders, damaged or hostile: {} kinds",
  }
  return {
    f"bad-{group}": Kind(
      words.format(len(bad_inputs.GROUPS[group])),
      ONE_LINE,
      tuple(bad_inputs.feed(group, x) for x in bad_inputs.GROUPS[group]),
      ("train",) if group == "rows" else ("caption",),
    )
    for group, words in said.items()
  }
