"""The stages before the judge: segments, clip captions, candidates.

Whoever writes the captions is a `Writer`, so that the stages can be run and
tested without a model.
"""

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from synpo_jax.data import originals, video
from synpo_jax.data.limits import Limits
from synpo_jax.data.sources import Source
from synpo_jax.generation import shots
from synpo_jax.generation.shots import Ask, Captioned, Shot, Text
from synpo_jax.pairing import ledger
from synpo_jax.pairing import segments as cutting
from synpo_jax.runtime import buckets, journal, progress
from synpo_jax.runtime.read_ahead import read_ahead


class Writer(Protocol):
  """What writes captions, as `generation.captioning.Writer` does."""

  def prepare(self, picture, count: int):
    """One [y, x, 3] of `count` of a shot as the model wants it, [Y, X, 3]."""

  def write(self, shots: Iterable[Shot], ask: Ask) -> Iterator[Captioned]:
    """Each shot's captions once; it may take its time, and any order."""


class Work(NamedTuple):
  """What the captioning stages share."""

  workdir: Path
  root: Path  # of relative video paths
  writer: Writer
  readers: int  # videos that are decoded ahead
  limits: Limits  # what reading a video may cost
  share: ledger.Share  # whose turn each video is, among several processes
  faults: dict[str, str]  # video id -> why it was left out; filled here
  whole: bool  # whether the writer is to show the files of whole videos
  note: Callable[[int], str]  # tokens so far -> what is said of the cost


class Stage(NamedTuple):
  """A stage at work."""

  new: list  # items that have no row yet
  append: Callable[..., None]  # (row, note): keeps the row, moves the bar on


@contextlib.contextmanager
def stage(
  workdir: Path,
  name: str,
  items: list[dict],
  share=ledger.ALONE,
  total: int | None = None,
) -> Iterator[Stage]:
  """Opens a stage's file for the rows of this share's items that it lacks.

  Items are known by their "id". total: of items in all, where
  others come later; progress is then told in lines.
  """
  mine = [item for item in items if ledger.is_mine(item["id"], share)]
  with journal.extend(ledger.path(workdir, name, share)) as (_, keep):
    rows = ledger.written(workdir, name)
    new = [item for item in mine if item["id"] not in rows]
    known = len(mine) - len(new)
    bar = progress.bar if total is None else progress.lines
    with bar(name, total or len(mine), done=known) as advance:

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
  limits: Limits,
) -> None:
  """Stage 1. Appends duration, frames and segments of each new video."""
  items = [{"id": source.id, "path": source.path} for source in sources]
  with stage(workdir, "segments", items, share) as (new, append):
    for item in new:
      try:
        clip = video.read(item["path"], _ends, limits=limits)
        file = originals.describe(item["path"])
      except (ValueError, OSError) as error:
        faults[item["id"]] = str(error)
        continue
      parts = cutting.segments(clip.duration, clip.total)
      row = {"id": item["id"], "video": item["id"], "duration": clip.duration}
      row |= {"frames": clip.total, originals.KEY: file}
      append({**row, "segments": parts, "config": mark})


def check_videos(workdir: Path, root: Path, share=ledger.ALONE) -> None:
  """Raises ValueError for a video that is another one than was cut.

  root: of relative video paths. One that is gone is left to who reads it.
  """
  for id_, row in ledger.written(workdir, "segments").items():
    path = buckets.join(root, row["video"])
    if ledger.is_mine(id_, share) and path.is_file():
      originals.check(path, row, "use another --workdir")


def _ends(_, total: int) -> np.ndarray:
  """The first frame of a video and its last."""
  return np.array([0, total - 1])


def caption_segments(work: Work, mark: str, frames: int, ask: Ask) -> None:
  """Stage 2. Appends one caption per segment of each new video.

  mark: hash of the settings, kept in every row. frames: taken from each
  segment, spread over it.
  """
  cuts = ledger.rows(work.workdir, "segments")
  todo = (work.workdir, "clips", list(cuts.values()), work.share)
  with stage(*todo) as (new, append):
    written = work.writer.write(_segment_shots(work, new, frames), ask)
    gathered, tokens = collections.defaultdict(dict), 0
    for id_, part, (text,) in written:
      gathered[id_][part] = text
      tokens += text.tokens
      if len(gathered[id_]) == len(cuts[id_]["segments"]):
        texts = [text for _, text in sorted(gathered.pop(id_).items())]
        row = {"id": id_, **as_fields(texts), "seed": ask.seed, "config": mark}
        append(row | shots.origin(texts), work.note(tokens))


def caption_videos(
  work: Work, mark: str, frames: dict, ask: Ask, tell: Callable[[dict], None]
) -> None:
  """Stage 3. Appends the candidate captions of each new video.

  frames: the fields of a video.FrameRule; the rest as above. tell: gets every
  row that was written.
  """
  cuts = ledger.rows(work.workdir, "segments")
  todo = (work.workdir, "candidates", list(cuts.values()), work.share)
  with stage(*todo) as (new, append):
    rule = video.FrameRule(**frames)
    written = work.writer.write(_video_shots(work, new, rule, ask), ask)
    tokens = 0
    for id_, _, texts in written:
      row = {"id": id_, "video": cuts[id_]["video"], "question": ask.question}
      row |= as_fields(texts) | {"seed": ask.seed, "config": mark}
      tokens += row["tokens"]
      append(row | shots.origin(texts), work.note(tokens))
      tell(row)


def as_fields(texts: list[Text]) -> dict:
  """What a row keeps of its captions."""
  return {
    "captions": [text.last for text in texts],
    "first": [text.first for text in texts],
    "tokens": sum(text.tokens for text in texts),
  }


def _video_shots(work: Work, rows, rule, ask: Ask) -> Iterator[Shot]:
  def load(row):
    path, prepare = buckets.join(work.root, row["video"]), work.writer.prepare
    shot, _ = shots.read(
      row["id"],
      path,
      rule,
      prepare,
      contrast=ask.contrast,
      limits=work.limits,
      whole=work.whole,
    )
    return shot

  for _, shot in readable(work, rows, load):
    yield shot


def _segment_shots(work: Work, rows, count: int) -> Iterator[Shot]:
  """Shots of all segments; each video is decoded once, for all of them."""

  def load(row):
    path = buckets.join(work.root, row["video"])
    picks = cutting.sample(row["segments"], count)
    wanted, places = np.unique(picks, return_inverse=True)

    def rule(duration, total):
      if total != row["frames"]:
        raise ValueError(
          f"{path}: {total} frames now, {row['frames']} when it was cut"
        )
      return wanted

    def prepare(picture):
      return work.writer.prepare(picture, count)

    clip = video.read(path, rule, prepare, work.limits)
    times = (picks - picks[:, :1]) / clip.rate  # a part is a clip of its own
    frames = clip.frames[places.reshape(picks.shape)]
    return zip(frames, times.tolist(), strict=True)

  for row, parts in readable(work, rows, load):
    for part, (frames, times) in enumerate(parts):
      yield Shot(row["id"], frames, part=part, times=times)


def readable(work: Work, rows: Iterable[dict], load) -> Iterator[tuple]:
  """Yields (row, load(row)), loading some rows ahead; faults are noted."""
  for row, future in read_ahead(rows, load, work.readers):
    try:
      loaded = future.result()
    except (ValueError, OSError) as error:
      work.faults[row["id"]] = str(error)
      continue
    yield row, loaded
