"""The stages before the judge: segments, clip captions, candidates.

Whoever writes the captions is a plain function, so that the stages can be
run and tested without a model:

  write(shots, *, seed, **how) -> iterator of (shot id, [Text, …])

It may take its time and return shots in any order, but each exactly once.
"""

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from synpo_jax.data import video
from synpo_jax.data.sources import Source
from synpo_jax.generation.shots import WHOLE, Shot, Text
from synpo_jax.pairing import ledger
from synpo_jax.pairing import segments as cutting
from synpo_jax.runtime import journal, progress
from synpo_jax.runtime.read_ahead import read_ahead

Write = Callable[..., Iterator[tuple[tuple[str, int], list[Text]]]]


class Work(NamedTuple):
  """What the captioning stages share."""

  workdir: Path
  root: Path  # of relative video paths
  write: Write
  prepare: Callable  # picture [y, x, 3] -> [Y, X, 3], as the model wants it
  seed: int
  readers: int  # videos that are decoded ahead
  share: ledger.Share  # whose turn each video is, among several processes
  faults: dict[str, str]  # video id -> why it was left out; filled here


class Stage(NamedTuple):
  """A stage at work."""

  new: list  # items that have no row yet
  append: Callable[..., None]  # (row, note): keeps the row, moves the bar on


@contextlib.contextmanager
def stage(
  workdir: Path, name: str, items: list[dict], share=ledger.ALONE
) -> Iterator[Stage]:
  """Opens a stage's file for the rows of this share's items that it lacks.

  Items are known by their "id".
  """
  mine = [item for item in items if ledger.is_mine(item["id"], share)]
  with journal.extend(ledger.path(workdir, name, share)) as (_, keep):
    rows = ledger.found(workdir, name)
    new = [item for item in mine if item["id"] not in rows]
    known = len(mine) - len(new)
    with progress.bar(name, len(mine), done=known) as advance:

      def append(row, note=""):
        keep(row)
        advance(1, note)

      yield Stage(new, append)


def cut(
  workdir: Path,
  sources: list[Source],
  mark: str,
  faults: dict[str, str],
  share: ledger.Share,
) -> None:
  """Stage 1. Appends duration, frames and segments of each new video."""
  items = [{"id": source.id, "path": source.path} for source in sources]
  with stage(workdir, "segments", items, share) as (new, append):
    for item in new:
      try:
        clip = video.read(item["path"], lambda _, n: np.array([0, n - 1]))
      except (ValueError, OSError) as error:
        faults[item["id"]] = str(error)
        continue
      parts = cutting.segments(clip.duration, clip.total)
      row = {"id": item["id"], "video": item["id"], "duration": clip.duration}
      append({**row, "frames": clip.total, "segments": parts, "config": mark})


def caption_segments(
  work: Work, mark: str, *, frames: int, question: str, **how
) -> None:
  """Stage 2. Appends one caption per segment of each new video.

  Args:
    mark: hash of the settings, kept in every row.
    frames: taken from each segment, spread over it.
    question: asked of every segment.
    how: what else `write` wants to know.
  """
  cuts = ledger.rows(work.workdir, "segments")
  todo = (work.workdir, "clips", list(cuts.values()), work.share)
  with stage(*todo) as (new, append):
    shots = _segment_shots(work, new, frames)
    written = work.write(shots, seed=work.seed, question=question, **how)
    gathered, tokens = collections.defaultdict(dict), 0
    for (id_, part), (text,) in written:
      gathered[id_][part] = text
      tokens += text.tokens
      if len(gathered[id_]) == len(cuts[id_]["segments"]):
        texts = [text for _, text in sorted(gathered.pop(id_).items())]
        row = {"id": id_, **_texts(texts), "seed": work.seed, "config": mark}
        append(row, f"{tokens:,} tokens")


def caption_videos(
  work: Work, mark: str, *, frames: dict, question: str, **how
) -> None:
  """Stage 3. Appends the candidate captions of each new video.

  frames: the fields of a video.FrameRule; the rest as above.
  """
  cuts = ledger.rows(work.workdir, "segments")
  todo = (work.workdir, "candidates", list(cuts.values()), work.share)
  with stage(*todo) as (new, append):
    shots = _video_shots(work, new, video.FrameRule(**frames))
    written = work.write(shots, seed=work.seed, question=question, **how)
    tokens = 0
    for (id_, _), texts in written:
      row = {"id": id_, "video": cuts[id_]["video"], "question": question}
      row |= _texts(texts) | {"seed": work.seed, "config": mark}
      tokens += row["tokens"]
      append(row, f"{tokens:,} tokens")


def _texts(texts: list[Text]) -> dict:
  return {
    "captions": [text.last for text in texts],
    "first": [text.first for text in texts],
    "tokens": sum(text.tokens for text in texts),
  }


def _video_shots(work: Work, rows, rule) -> Iterator[Shot]:
  def load(row):
    path = work.root / row["video"]
    return video.read(path, rule, work.prepare).frames

  for row, frames in _readable(work, rows, load):
    yield Shot((row["id"], WHOLE), frames)


def _segment_shots(work: Work, rows, count: int) -> Iterator[Shot]:
  """Shots of all segments; each video is decoded once, for all of them."""

  def load(row):
    path = work.root / row["video"]
    picks = cutting.sample(row["segments"], count)
    wanted, places = np.unique(picks, return_inverse=True)

    def rule(duration, total):
      if total != row["frames"]:
        raise ValueError(
          f"{path}: {total} frames now, {row['frames']} when it was cut"
        )
      return wanted

    clip = video.read(path, rule, work.prepare)
    return clip.frames[places.reshape(picks.shape)]

  for row, parts in _readable(work, rows, load):
    for part, frames in enumerate(parts):
      yield Shot((row["id"], part), frames)


def _readable(work: Work, rows: Iterable[dict], load) -> Iterator[tuple]:
  """Yields (row, load(row)), loading some rows ahead; faults are noted."""
  for row, future in read_ahead(rows, load, work.readers):
    try:
      loaded = future.result()
    except (ValueError, OSError) as error:
      work.faults[row["id"]] = str(error)
      continue
    yield row, loaded
