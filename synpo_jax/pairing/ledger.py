"""The files of a pair run, and the settings each of them was made with.

A stage's rows carry the hash of all settings that shape them; a stage that
finds its file made with others refuses, and says which differ.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from synpo_jax.runtime import buckets, journal
from synpo_jax.runtime.settings import differences, digest

FILES = {
  "segments": "segments.jsonl",
  "clips": "clips.jsonl",
  "candidates": "candidates.jsonl",
  "judge": "judgements.jsonl",
  "pairs": "pairs.jsonl",
}
MORE = {"corrupted": "corrupted.jsonl"}  # stages that only some runs have
CACHE = "judge_cache.jsonl"
ANSWERS = "captioner_cache"  # of captioners behind an endpoint
SETTINGS = "settings.jsonl"


class Share(NamedTuple):
  """Which of the processes that caption together this one is."""

  index: int
  count: int


ALONE = Share(0, 1)


def path(workdir: Path | str, stage: str, share: Share = ALONE) -> Path:
  """The file of a stage, or of a process's share: clips.0-of-4.jsonl."""
  file = buckets.at(workdir) / (FILES | MORE)[stage]
  if share.count == 1:
    return file
  return file.with_suffix(f".{share.index}-of-{share.count}.jsonl")


def answers(workdir: Path | str, share: Share = ALONE) -> Path:
  """Where a process keeps what a captioner behind an endpoint answered."""
  part = "" if share.count == 1 else f".{share.index}-of-{share.count}"
  return buckets.at(workdir) / f"{ANSWERS}{part}.jsonl"


def all_answers(workdir: Path | str) -> list[Path]:
  """The files of `answers` that there are, of all processes."""
  return sorted(buckets.at(workdir).glob(f"{ANSWERS}*.jsonl"))


def is_mine(id_: str, share: Share) -> bool:
  """Whether a video is this process's; its name alone decides."""
  number = hashlib.sha256(id_.encode()).digest()[:8]
  return int.from_bytes(number, "big") % share.count == share.index


def written(workdir: Path | str, stage: str) -> dict[str, dict]:
  """What a stage has written so far in all of its files, by video id.

  Raises ValueError for a video that two files have.
  """
  whole = path(workdir, stage)
  rows = {}
  for file in (whole, *sorted(whole.parent.glob(f"{whole.stem}.*-of-*.jsonl"))):
    new = journal.read(file)
    if twice := rows.keys() & new.keys():
      raise ValueError(
        f"{file}: {sorted(twice)[0]} is in another file of this stage too; "
        "remove one of the two rows"
      )
    rows |= new
  return rows


def rows(workdir: Path | str, stage: str) -> dict[str, dict]:
  """As `written`; raises FileNotFoundError when there is nothing."""
  known = written(workdir, stage)
  if not known:
    raise FileNotFoundError(
      f"{path(workdir, stage)}: no rows; run the stage {stage!r} first"
    )
  return known


def made_with(workdir: Path | str, *stages: str) -> dict[str, dict]:
  """Settings and hashes of all stages that ran, by stage.

  Raises FileNotFoundError when one of `stages` did not, ValueError for rows of
  them that were made with other settings.
  """
  known = journal.read(Path(workdir) / SETTINGS, "stage")
  for stage in stages:
    if stage not in known:
      raise FileNotFoundError(
        f"{Path(workdir) / SETTINGS}: nothing on {stage!r}; run that stage "
        "first"
      )
    _check_marks(workdir, stage, written(workdir, stage), known[stage]["hash"])
  return known


def register(
  workdir: Path | str, stage: str, settings: dict, share: Share = ALONE
) -> str:
  """Keeps the settings of a stage; returns their hash, 12 hex digits.

  Of several processes the first one writes them down. Raises ValueError when
  the stage's file was begun with other settings, with the keys that differ,
  or holds rows whose own hash is another one.
  """
  mark = digest(settings, 12)
  file = path(workdir, stage)
  known = journal.read(Path(workdir) / SETTINGS, "stage")
  begun = written(workdir, stage)
  if begun and stage in known and known[stage]["hash"] != mark:
    differing = [
      f"{key}: {then!r} then, {now!r} now"
      for key, then, now in differences(known[stage]["settings"], settings)
    ]
    raise ValueError(
      f"{file} was made with other settings ({'; '.join(differing)}); "
      "use another workdir, or move that file and those of later stages away"
    )
  _check_marks(workdir, stage, begun, mark)
  old = known[stage]["hash"] if stage in known else None
  if old != mark and share.index == 0:
    known[stage] = {"stage": stage, "hash": mark, "settings": settings}
    journal.renew(Path(workdir) / SETTINGS, list(known.values()))
  return mark


def _check_marks(workdir, stage, made: dict[str, dict], mark: str):
  """Raises ValueError for rows that carry another hash of settings."""
  for id_, row in made.items():
    judge = row.get("judge")
    own = (judge if isinstance(judge, dict) else row).get("config")
    if own != mark:
      raise ValueError(
        f"{path(workdir, stage)}: the row of {id_} was made with other "
        f"settings (hash {own}, not {mark}), and {SETTINGS} is not of that "
        "run; put its own back, or use another workdir"
      )
