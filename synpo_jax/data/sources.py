"""Which videos are meant: files, folders, globs, lists in JSONL."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from absl import logging

from synpo_jax.data import media, several
from synpo_jax.data.video import SUFFIXES
from synpo_jax.runtime import buckets, file_kinds


class Source(NamedTuple):
  """A video file under the name by which every later row knows it."""

  id: str  # path from the root, with forward slashes; absolute outside of it
  path: Path


def find(wanted: str, root: str | Path) -> list[Source]:
  """The videos of `wanted`, each once, in order of writing, then of name.

  Args:
    wanted: parts separated by commas, each a video file, a folder (searched
      to the bottom), a glob (`**` too), or a .jsonl file whose rows have a
      "video" (or another name of media.VIDEO), a path. Of a folder or a glob
      files with a suffix of video.SUFFIXES are taken, a line counts the rest.
    root: where relative paths start, and what ids are relative to.

  Raises:
    FileNotFoundError: a part that leads to no video.
    ValueError: a line of a list that names none, or a name that is not
      UTF-8, under which rows could not be kept.
  """
  root = buckets.at(root)
  files = {}
  for part in (part.strip() for part in wanted.split(",")):
    paths = _paths(part, root) if part else []
    if not paths:
      raise FileNotFoundError(
        f"{part or 'videos'}: no such video, folder of videos or list below "
        f"{root.resolve()}; known suffixes are {' '.join(sorted(SUFFIXES))}"
      )
    for path in paths:
      files.setdefault(_name(path, root), path)
  return [Source(name, path) for name, path in files.items()]


def _paths(part: str, root: Path) -> list[Path]:
  path = buckets.join(root, part)
  if path.is_dir():
    return _videos(part, buckets.files(path))
  if path.is_file():
    return _listed(path, root) if path.suffix == ".jsonl" else [path]
  matches = buckets.matching(part, root)
  return _videos(part, (p for p in matches if p.is_file()))


def _videos(part: str, paths: Iterable[Path]) -> list[Path]:
  """The videos among files, sorted; what else there is, is counted and said."""
  files = sorted(paths)
  videos = [path for path in files if path.suffix.lower() in SUFFIXES]
  others = Counter(
    path.suffix.lower() or "without suffix"
    for path in files
    if path.suffix.lower() not in SUFFIXES
  )
  if others and videos:
    counts = ", ".join(f"{n} {suffix}" for suffix, n in others.most_common())
    logging.warning("%s: %d videos; passed over %s", part, len(videos), counts)
  return videos


def _listed(path: Path, root: Path) -> list[Path]:
  """Video paths of the rows of a JSONL file."""
  file_kinds.check_json_lines(path)
  names = []
  for number, line in enumerate(path.read_bytes().splitlines(), 1):
    if not line.strip():
      continue
    try:
      names.append(_video(line))
    except media.Fault as fault:
      raise ValueError(f"{path} line {number}: {fault}") from fault
  return [_located(path, name, root) for name in names]


def _video(line: bytes) -> str:
  """The one video that a row names."""
  try:
    row = json.loads(line.decode("utf-8-sig"))
  except (ValueError, RecursionError):
    row = None
  if not isinstance(row, dict):
    raise media.Fault("no JSON row with a 'video'")
  given = {name: media.one(name, row.get(name)) for name in media.VIDEO}
  found = {name: value for name, value in given.items() if value is not None}
  if not found:
    media.check(row, set(), seen=False)
    raise media.Fault("no JSON row with a 'video'")
  name = next(iter(found.values()))
  if any(value != name for value in found.values()):
    raise media.Fault(f"{' and '.join(found)} say different things")
  if not isinstance(name, str) or not name:
    raise media.Fault("no JSON row with a 'video'")
  if (count := len(several.parts_of(name))) > 1:
    key = next(iter(found))
    raise media.Fault(
      f"{key!r} lists {count} videos; one is captioned at a time"
    )
  return name


def _located(listing: Path, name: str, root: Path) -> Path:
  for folder in (root, listing.parent):
    if (path := buckets.join(folder, name)).is_file():
      return path
  raise FileNotFoundError(
    f"{listing}: {name} is neither in {root.resolve()} nor beside the list"
  )


def _name(path: Path, root: Path) -> str:
  whole, base = map(_absolute, (path, root))
  if whole.is_relative_to(base):
    whole = whole.relative_to(base)
  name = whole.as_posix()
  if name.encode("utf-8", "replace").decode() != name:
    raise ValueError(f"{name!r}: the name of a video must be UTF-8; rename it")
  return name


def _absolute(path: Path) -> Path:
  local = not isinstance(path, buckets.BucketPath)
  return Path(os.path.abspath(path)) if local else path
