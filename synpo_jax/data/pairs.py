"""Preference rows: files to checked pairs, with every fault listed.

What a row holds is read by data/rows.py, files by data/files.py; here are ids,
the gap between scores, and where the videos lie.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from synpo_jax.data import files, rows, several, video
from synpo_jax.data.files import Place
from synpo_jax.data.rows import Fault, Message, Pair
from synpo_jax.runtime import buckets
from synpo_jax.runtime.terminal import together

__all__ = ["Message", "Pair"]  # what others read of a file of pairs


class Filtered(NamedTuple):
  """Pairs that stay, those that the score gap removed, and what was read.

  places: where each of both stands, by its id. marks: how many of all
  questions had a mark of their video (`<video>`), taken out. forms: how many
  rows were of each form, in words.
  """

  pairs: list[Pair]
  below_gap: list[Pair]
  places: dict[str, Place]
  marks: int
  forms: Counter[str]


def read_pairs(
  path: str | Path,
  *,
  question: str | None = None,
  captions: int = 2,
  min_score_gap: float | int | None = None,
) -> Filtered:
  """Reads and checks all rows, then keeps those with a large enough gap.

  Args:
    path: a file of rows, a folder of `datasets` or a glob (`files.find`).
    question: for rows that bring none; None makes such rows faulty.
    captions: 2 wants a rejected caption in every row, 3 a reference caption,
      too; lists.MOST all judged captions; 1 drops them if there.
    min_score_gap: smallest chosen minus rejected score, or of a list best minus
      worst, that stays (the official recipe keeps gaps of at least 4); None
      keeps all rows.

  Raises:
    FileNotFoundError: no such file.
    ValueError: what a file is where it holds no rows, or that it is damaged;
      else every faulty row with its number, up to terminal.LISTED of them.
  """
  scored = captions > 1 and min_score_gap is not None
  read = _checked(path, question, captions, scored)
  if not scored:
    return read
  kept = [pair for pair in read.pairs if _gap(pair) >= min_score_gap]
  lost = [pair for pair in read.pairs if not _gap(pair) >= min_score_gap]
  if not kept:
    raise ValueError(
      f"{path}: none of {len(lost)} rows has a score gap of at least "
      f"{min_score_gap:g}; lower min_score_gap, or set it to None"
    )
  return read._replace(pairs=kept, below_gap=lost)


def _checked(wanted, question, captions: int, scored: bool) -> Filtered:
  """All rows of all files, or an error with all faults."""
  found = files.find(wanted)
  named = found[0] if len(found) == 1 else wanted
  pairs, faults, places, marks, forms = [], [], {}, 0, Counter()
  for number, file in enumerate(found):
    before = f"file-{number + 1}-" if number else ""
    for place, held in files.stream(file):
      try:
        row = rows.read(held, question, captions, scored)
        pair = row.pair._replace(id=_id(row, place, places, before))
      except Fault as fault:
        faults.append(f"{place}: {fault}")
        continue
      places[pair.id] = place
      marks += row.marked
      forms[row.form] += 1
      pairs.append(pair)
  _refuse(named, faults, empty=not pairs)
  return Filtered(pairs, [], places, marks, forms)


def _id(row: rows.Row, place: Place, places: dict[str, Place], before: str):
  """The id of a row: its own, else its prompt's or its place's.

  before: what tells the place from those in the files before this one.
  """
  there = f"{before}{place.unit}-{place.number}"
  name = row.pair.id or there
  if name in places and row.of_prompt:  # several pairs of one prompt
    name = f"{name}-{there}"
  if name in places:
    other = places[name]
    where = f"{other.unit} {other.number}"
    where += "" if other.file == place.file else f" of {other.file}"
    raise Fault(f"id {name!r} is already used on {where}")
  return name


def _gap(pair: Pair) -> float:
  return pair.chosen_score - pair.rejected_score


def _refuse(path: str | Path, faults: list[str], empty: bool):
  """Raises one error with the faults found, if there are any."""
  if faults:
    raise ValueError(together(path, faults))
  if empty:
    raise ValueError(f"{path}: holds no rows")


def index_videos(root: str | Path) -> dict[str, list[Path]]:
  """Video files below a folder, by file name and by name without suffix.

  Walked once and in order; only files with a suffix of video.SUFFIXES count.
  """
  root = buckets.at(root)
  if not root.is_dir():
    raise FileNotFoundError(f"{root}: no such folder of videos")
  index = defaultdict(list)
  for path in sorted(buckets.files(root)):
    if path.suffix.lower() in video.SUFFIXES:
      index[path.name].append(path)
      index[path.stem].append(path)
  return dict(index)


def _is_file(root: Path) -> Callable[[Path], bool]:
  """Returns whether a path is a file; what lies in a bucket is listed once."""
  if not isinstance(root, buckets.BucketPath):
    return os.path.isfile  # False for a name that none can have
  known = set(root.files())
  return known.__contains__  # a row leads to no other bucket


class Located(NamedTuple):
  """Paths of videos by the names that rows use, and why others have none."""

  paths: dict[str, Path | several.Parts]
  missing: dict[str, str]


def locate(names: Iterable[str], root: str | Path) -> Located:
  """Finds the file of each video name: a path, or a name anywhere in root.

  A name of several (several.name_of) has the files of all, or is missing.

  Raises:
    ValueError: names that fit several files; the row must say which.
  """
  names = list(dict.fromkeys(names))
  apart = {name: several.parts_of(name) for name in names}
  found = _locate((part for name in names for part in apart[name]), root)
  paths, missing = {}, {}
  for name, parts in apart.items():
    lost = [part for part in parts if part in found.missing]
    if lost:
      why = found.missing[lost[0]]
      missing[name] = why if len(parts) == 1 else f"{lost[0]}: {why}"
    elif len(parts) == 1:
      paths[name] = found.paths[name]
    else:
      paths[name] = several.Parts(tuple(found.paths[p] for p in parts))
  return Located(paths, missing)


def _locate(names: Iterable[str], root: str | Path) -> Located:
  """The same of names of one file each."""
  root = buckets.at(root)
  paths, missing, doubtful, index = {}, {}, [], None
  here = _is_file(root)
  for name in dict.fromkeys(names):
    if here(path := buckets.join(root, name)):
      paths[name] = path
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
