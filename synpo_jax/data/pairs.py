"""Preference rows: JSON lines to checked pairs, with every fault listed.

What a row holds is read by data/rows.py; here are the file, ids, the gap
between scores, and where the videos lie.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from synpo_jax.data import rows, video
from synpo_jax.data.rows import Fault, Message, Pair
from synpo_jax.runtime import file_kinds, shipped
from synpo_jax.runtime.terminal import together

__all__ = ["Message", "Pair"]  # what others read of a file of pairs


class Filtered(NamedTuple):
  """Pairs that stay, how many rows the score gap removed, and how many of
  all questions had a mark of their video (`<video>`), taken out."""

  pairs: list[Pair]
  below_gap: int
  marks: int


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
    ValueError: what the file is where it holds no JSON lines; else every
      faulty row with its line number, up to terminal.LISTED of them.
  """
  path = shipped.find(path)
  if path.is_dir():
    raise ValueError(f"{path}: is a folder; name the file of pairs in it")
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file of pairs")
  scored = captions == 2 and min_score_gap is not None
  pairs, marks = _checked(path, question, captions, scored)
  kept = [p for p in pairs if not scored or _gap(p) >= min_score_gap]
  if not kept:
    raise ValueError(
      f"{path}: none of {len(pairs)} rows has a score gap of at least "
      f"{min_score_gap:g}; lower min_score_gap, or set it to None"
    )
  return Filtered(kept, len(pairs) - len(kept), marks)


def _checked(path: Path, question, captions: int, scored: bool):
  """All rows of a file and how many had a mark, or an error with all faults."""
  file_kinds.check_json_lines(path)
  pairs, faults, lines, marks = [], [], {}, 0
  for number, line in enumerate(path.read_bytes().splitlines(), start=1):
    if not line.strip():
      continue
    try:
      row = rows.read(line, question, captions, scored)
      pair = row.pair._replace(id=_id(row, number, lines))
    except Fault as fault:
      faults.append(f"{path}:{number}: {fault}")
      continue
    lines[pair.id] = number
    marks += row.marked
    pairs.append(pair)
  _refuse(path, faults, empty=not pairs)
  return pairs, marks


def _id(row: rows.Row, number: int, lines: dict[str, int]) -> str:
  """The id of a row: its own, else its prompt's or its line's."""
  name = row.pair.id or f"line-{number}"
  if name in lines and row.of_prompt:  # several pairs of one prompt
    name = f"{name}-line-{number}"
  if name in lines:
    raise Fault(f"id {name!r} is already used on line {lines[name]}")
  return name


def _gap(pair: Pair) -> float:
  return pair.chosen_score - pair.rejected_score


def _refuse(path: Path, faults: list[str], empty: bool):
  """Raises one error with the faults found, if there are any."""
  if faults:
    raise ValueError(together(path, faults))
  if empty:
    raise ValueError(f"{path}: holds no rows")


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
