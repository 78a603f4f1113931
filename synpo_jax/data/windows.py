"""Which videos make a chunk together, and the chunk made of them.

A plan follows from the list of videos and from what is stored, not from who
decodes or how often that was killed: the chunks come out the same.
"""

import contextlib
import hashlib
import io
import itertools
import json
from collections.abc import (
  Callable,
  Collection,
  Iterable,
  Iterator,
  Mapping,
  MutableMapping,
)
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds

from synpo_jax.data import chunks, decoding, records
from synpo_jax.runtime import journal


class Window(NamedTuple):
  """Videos that make one chunk, those aside that cannot be decoded."""

  name: str  # of the chunk
  jobs: list[decoding.Job]


def plan(
  files: Mapping[str, decoding.File],
  stored: Collection[str],
  taken: Collection[str] | None,
  size: int,
) -> list[Window]:
  """Windows of what is not stored, `size` videos of the list each.

  Args:
    files: the file, or files, of each key of the whole list.
    stored: keys that some chunk has.
    taken: names of the chunks that there are. A video whose window has its
      chunk failed before, or is new: such come last. None where others may
      write to the same place: names then say what is in the windows.
  """
  groups = [
    [job for job in some if job[0] not in stored]
    for some in _batched(files.items(), size)
  ]
  if taken is None:
    return [Window(_by_content(todo), todo) for todo in groups if todo]
  windows, late = [], []
  for number, todo in enumerate(groups):
    if (name := _numbered(number)) in taken:
      late += todo
    elif todo:
      windows.append(Window(name, todo))
  numbers = map(_numbered, itertools.count(len(groups)))
  free = (name for name in numbers if name not in taken)
  return windows + [Window(next(free), some) for some in _batched(late, size)]


def _numbered(number: int) -> str:
  return f"chunk-{number:05d}"


def _by_content(jobs: list[decoding.Job]) -> str:
  keys = json.dumps([key for key, _ in jobs])
  return f"chunk-{hashlib.sha256(keys.encode()).hexdigest()[:32]}"


def _batched(items: Iterable, size: int) -> Iterator[list]:
  items = iter(items)
  while some := list(itertools.islice(items, size)):
    yield some


def build(
  draft: Path,
  size: tuple[int | None, int | None],
  results: Iterable[decoding.Outcome],
  failed: MutableMapping[str, str],
  advance: Callable,
) -> bool:
  """Makes a chunk of the clips among the results, if there are any.

  draft: a folder that is made for it, by whose parent an error of writing is
  named. size: of the frames, (Y, X), None where they differ. failed: gets the
  reasons of the others. advance: progress.bar's, called for each result.
  """
  rows = []
  supply = _examples(results, rows, failed, advance)
  if (first := next(supply, None)) is None:
    return False
  clips = chunks.Clips(
    size=size, examples=itertools.chain([first], supply), data_dir=draft
  )
  quiet = contextlib.redirect_stdout(io.StringIO())
  with quiet, records.writing_to(draft.parent):
    tfds.disable_progress_bar()
    clips.download_and_prepare()
  journal.rewrite(draft / chunks.LIST, rows)
  return True


def _examples(results, rows: list[dict], failed, advance) -> Iterator[dict]:
  """What is stored of each clip; its line of the list is added to `rows`."""
  for key, outcome in results:
    advance(note=f"{len(failed)} failed" if failed else "")
    if isinstance(outcome, str):
      failed[key] = outcome
      continue
    frames = outcome.frames
    place = {"record": len(rows), "frames": len(frames)}
    place["digest"] = chunks.digest_of(frames)
    place["times"] = outcome.times
    place["size"] = frames.shape[1:3]
    rows.append({"key": key, **place})
    yield {
      "video": json.loads(key)[0],
      "frames": frames,
      "indices": outcome.indices,
      "duration": outcome.duration,
      "total": outcome.total,
    }
