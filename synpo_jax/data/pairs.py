"""Preference rows: JSON lines to checked pairs, with every fault listed.

A row: `question`, `chosen`, `rejected`, and optionally `video` (a path, or a
name in the video folder; absent for text-only rows), `chosen_score`,
`rejected_score`, `id`. The official release's names are read too, and rows
whose `chosen` and `rejected` are lists of chat messages that differ in the
last one. Other keys are provenance and left alone.
"""

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from synpo_jax.data import video
from synpo_jax.runtime import shipped

# Field of a pair -> the names it goes by in files, ours first.
NAMES = {
  "id": ("id", "prompt_id", "idx"),
  "video": ("video", "video_name"),
  "question": ("question", "prompt"),
  "chosen": ("chosen", "pos_pre"),
  "rejected": ("rejected", "neg_pre"),
  "chosen_score": ("chosen_score", "pos_score", "score_chosen"),
  "rejected_score": ("rejected_score", "neg_score", "score_rejected"),
}
ROLES = {"role", "content"}  # what a message needs
LISTED = 20  # faults shown in one error; the others are counted

Message = tuple[str, str]  # role, text


class Pair(NamedTuple):
  """One row, checked. `rejected` is None in rows for plain fine-tuning."""

  id: str
  video: str | None  # as the row writes it
  question: str
  history: tuple[Message, ...]  # turns before the question, oldest first
  chosen: str
  rejected: str | None
  chosen_score: float | None
  rejected_score: float | None


class Filtered(NamedTuple):
  """Pairs that stay, and how many rows the score gap removed."""

  pairs: list[Pair]
  below_gap: int


class Fault(Exception):
  """What is wrong with a row, in words that follow its line number."""


def read_pairs(
  path: str | Path,
  *,
  question: str | None = None,
  captions: int = 2,
  min_score_gap: float | int | None = None,
) -> Filtered:
  """Reads and checks all rows, then keeps those with a large enough gap.

  Args:
    path: JSON lines, one object each; blank lines are passed over.
    question: for rows that bring none; None makes such rows faulty.
    captions: 2 wants a rejected caption in every row; 1 drops it if there.
    min_score_gap: smallest chosen minus rejected score that stays (the
      official recipe keeps gaps of at least 4); None keeps all rows.

  Raises:
    FileNotFoundError: no such file.
    ValueError: every faulty row with its line number, up to LISTED of them.
  """
  path = shipped.find(path)
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file of pairs")
  scored = captions == 2 and min_score_gap is not None
  pairs = _checked(path, question, captions, scored)
  kept = [p for p in pairs if not scored or _gap(p) >= min_score_gap]
  if not kept:
    raise ValueError(
      f"{path}: none of {len(pairs)} rows has a score gap of at least "
      f"{min_score_gap:g}; lower min_score_gap, or set it to None"
    )
  return Filtered(kept, len(pairs) - len(kept))


def _checked(path: Path, question, captions: int, scored: bool) -> list[Pair]:
  """All rows of a file, or one error with all their faults."""
  pairs, faults, lines = [], [], {}
  for number, line in enumerate(path.read_bytes().splitlines(), start=1):
    if not line.strip():
      continue
    try:
      pair = _pair(_decode(line), question, captions, scored)
      pair = pair._replace(id=pair.id or f"line-{number}")
      if pair.id in lines:
        raise Fault(f"id {pair.id!r} is already used on line {lines[pair.id]}")
    except Fault as fault:
      faults.append(f"{path}:{number}: {fault}")
      continue
    lines[pair.id] = number
    pairs.append(pair)
  _refuse(path, faults, empty=not pairs)
  return pairs


def _gap(pair: Pair) -> float:
  return pair.chosen_score - pair.rejected_score


def _refuse(path: Path, faults: list[str], empty: bool):
  """Raises one error with the faults found, if there are any."""
  if faults:
    more = len(faults) - LISTED
    listed = faults[:LISTED] + ([f"… and {more} more"] if more > 0 else [])
    raise ValueError("\n".join([f"{path}: {len(faults)} faults", *listed]))
  if empty:
    raise ValueError(f"{path}: holds no rows")


def _decode(line: bytes) -> dict[str, Any]:
  """The object of one line under our names, checked for doubled fields."""
  try:
    row = json.loads(line.decode("utf-8-sig"))
  except UnicodeDecodeError as error:
    raise Fault("is not UTF-8 text") from error
  except json.JSONDecodeError as error:
    raise Fault(f"is not JSON: {error.msg} at column {error.colno}") from error
  except (ValueError, RecursionError) as error:  # Python's own limits
    raise Fault("is JSON too deep, or a number too long, to read") from error
  if not isinstance(row, dict):
    raise Fault(f"is a JSON {type(row).__name__}, not an object")
  fields = {}
  if not isinstance(row.get("id"), str | int | None):
    raise Fault("'id' is neither text nor a whole number")
  for field, names in NAMES.items():
    given = [name for name in names if row.get(name) is not None]
    if len({json.dumps(row[name]) for name in given}) > 1 and field != "id":
      raise Fault(f"{' and '.join(given)} say different things")
    fields[field] = row[given[0]] if given else None
  return fields


def _pair(fields: dict, question, captions: int, scored: bool) -> Pair:
  """A checked pair; its id is empty where the row has none."""
  history, fields = _unfold(fields, captions)
  asked = fields["question"] if fields["question"] is not None else question
  if captions == 1:
    fields = fields | {"rejected": None, "rejected_score": None}
  pair = Pair(
    id="" if fields["id"] is None else str(fields["id"]),
    video=None if fields["video"] is None else _text(fields, "video"),
    question=_text({"question": asked}, "question"),
    history=history,
    chosen=_text(fields, "chosen"),
    rejected=_text(fields, "rejected") if captions == 2 else None,
    chosen_score=_score(fields, "chosen_score", scored),
    rejected_score=_score(fields, "rejected_score", scored),
  )
  if pair.rejected is not None and pair.chosen.strip() == pair.rejected.strip():
    raise Fault("chosen and rejected are the same text")
  return pair


def _text(fields: dict, name: str) -> str:
  text = fields[name]
  if text is None:
    raise Fault(f"lacks {name!r}")
  if not isinstance(text, str):
    raise Fault(f"{name!r} is a {type(text).__name__}, not text")
  if not text.strip():
    raise Fault(f"{name!r} is empty")
  try:
    text.encode()
  except UnicodeEncodeError as error:
    half = ascii(text[error.start])
    raise Fault(f"{name!r} holds {half}, half of a character") from error
  return text


def _score(fields: dict, name: str, needed: bool) -> float | None:
  score = fields[name]
  if score is None:
    if needed:
      raise Fault(f"lacks {name!r}, which min_score_gap needs")
    return None
  number = isinstance(score, int | float) and not isinstance(score, bool)
  if not number or not abs(score) <= sys.float_info.max:  # NaN neither
    raise Fault(f"{name!r} is {score!r:.40}, not a finite number")
  return float(score)


def _unfold(fields: dict, captions: int) -> tuple[tuple[Message, ...], dict]:
  """Turns message lists into earlier turns, question and two answers."""
  if not isinstance(fields["chosen"], list):
    return (), fields
  chosen = _messages(fields, "chosen")
  if captions == 2:
    rejected = _messages(fields, "rejected")
    if chosen[:-1] != rejected[:-1]:
      raise Fault("chosen and rejected differ before their last message")
    fields = fields | {"rejected": rejected[-1][1]}
  *history, asked = chosen[:-1]
  return tuple(history), fields | {
    "question": asked[1],
    "chosen": chosen[-1][1],
  }


def _messages(fields: dict, name: str) -> list[Message]:
  """Turns of a conversation that ends with a question and its answer."""
  listed = fields[name]
  if not isinstance(listed, list):
    raise Fault(f"{name!r} is not a list of messages as its counterpart is")
  if not all(isinstance(m, dict) and m.keys() >= ROLES for m in listed):
    raise Fault(f"{name!r} holds messages without 'role' or 'content'")
  messages = [(_text(m, "role"), _text(m, "content")) for m in listed]
  if [role for role, _ in messages[-2:]] != ["user", "assistant"]:
    raise Fault(f"{name!r} does not end with a user and an assistant message")
  return messages


def index_videos(root: str | Path) -> dict[str, list[Path]]:
  """Video files below a folder, by file name and by name without suffix.

  Walked once and in order; only files with a suffix of video.SUFFIXES count.
  """
  root = Path(root)
  if not root.is_dir():
    raise FileNotFoundError(f"{root}: no such folder of videos")
  index = defaultdict(list)
  for path in sorted(root.rglob("*")):
    if path.suffix.lower() in video.SUFFIXES:
      index[path.name].append(path)
      index[path.stem].append(path)
  return dict(index)


class Located(NamedTuple):
  """Paths of videos by the names that rows use, and why others have none."""

  paths: dict[str, Path]
  missing: dict[str, str]


def locate(names: Iterable[str], root: str | Path) -> Located:
  """Finds the file of each video name: a path, or a name anywhere in root.

  Raises:
    ValueError: names that fit several files; the row must say which.
  """
  root = Path(root)
  paths, missing, doubtful, index = {}, {}, [], None
  for name in dict.fromkeys(names):
    if os.path.isfile(root / name):  # False for a name that none can have
      paths[name] = root / name
      continue
    index = index_videos(root) if index is None else index
    fitting = index.get(name, [])
    if not fitting:
      missing[name] = f"no such file, nor a video of that name in {root}"
    elif len(fitting) == 1:
      paths[name] = fitting[0]
    else:
      files = ", ".join(str(p.relative_to(root)) for p in fitting[:3])
      doubtful.append(f"{root}: video {name!r} could be any of {files}")
  _refuse(root, doubtful, empty=False)
  return Located(paths, missing)
