"""A stage of its own: captions of videos that are corrupted on purpose.

The captioner is the candidates', and so is the question; only the frames are
others. A judge scores what it says of them among the candidates.
"""

import numpy as np

from synpo_jax.data import corruption, video
from synpo_jax.generation import shots
from synpo_jax.generation.shots import Ask, Shot
from synpo_jax.pairing import ledger, stages
from synpo_jax.pairing.stages import Work
from synpo_jax.runtime import buckets

STAGE = "corrupted"


def settings(c) -> dict:
  """What the captions of corrupted videos are made with, as candidates are."""
  return c.candidates.to_dict() | {"candidates": c.corrupted.candidates}


def check(c, wanted: list[str], served: bool) -> None:
  """Raises ValueError, in one line, for what this stage cannot do.

  wanted: the stages to run; served: whether an endpoint writes candidates.
  """
  if STAGE not in wanted:
    return
  corruption.check(c.corrupted.kinds)
  if c.candidates.contrast_weight:
    raise ValueError(
      f"candidates.contrast_weight={c.candidates.contrast_weight}: corrupted "
      "videos are captioned without contrast; set it to 0, or leave out the "
      f"stage {STAGE!r}"
    )
  if served and c.serving.send == "video":
    raise ValueError(
      "serving.send=video: of a file the server takes its own frames, so "
      "corrupted ones cannot be shown; set serving.send to frames or images"
    )


def check_wanted(c, wanted: list[str], workdir) -> None:
  """Raises ValueError for pairs that want captions which no stage writes.

  Said before anything is judged, as all captions of a video are judged at once.
  """
  if c.pairs.negative != STAGE or STAGE in wanted:
    return
  if {"judge", "pairs"} & {*wanted} and not ledger.written(workdir, STAGE):
    raise ValueError(
      f"pairs.negative={STAGE}: no captions of corrupted videos; name the "
      "stage that writes them, --config.stages=segments,clips,corrupted,"
      "candidates,judge,pairs"
    )


def caption(work: Work, mark: str, frames: dict, ask: Ask, kinds) -> None:
  """Appends captions of each new video, corrupted by one of the kinds.

  mark, frames, ask: as of stages.caption_videos. A row's "corruption" is the
  kind and the video's frames in the order in which they were shown.
  """
  cuts = ledger.rows(work.workdir, "segments")
  todo = (work.workdir, STAGE, list(cuts.values()), work.share)
  with stages.stage(*todo) as (new, append):
    rule, made, tokens = video.FrameRule(**frames), {}, 0
    wanted = _shots(work, new, rule, ask.seed, kinds, made)
    for id_, _, texts in work.writer.write(wanted, ask):
      row = {"id": id_, "video": cuts[id_]["video"], "question": ask.question}
      row |= stages.as_fields(texts) | {"corruption": made.pop(id_)}
      row |= {"seed": ask.seed, "config": mark}
      tokens += row["tokens"]
      append(row | shots.origin(texts), work.note(tokens))


def _shots(work, rows, rule, seed, kinds, made):
  """Yields shots of the corrupted videos; made[id] says what was done."""

  def load(row):
    path, found = buckets.join(work.root, row["video"]), []

    def needed(duration, total):  # asked again where a header was wrong
      name = row["id"]
      found[:] = [corruption.corrupt(name, seed, kinds, rule, duration, total)]
      return np.unique(found[0].frames)

    def prepare(picture):  # of so many as are shown, some of them twice
      return work.writer.prepare(picture, len(found[0].frames))

    clip = video.read(path, needed, prepare, work.limits)
    return clip, found[0]

  for row, (clip, found) in stages.readable(work, rows, load):
    made[row["id"]] = {
      "kind": found.kind,
      "frames": found.frames.tolist(),
      "version": corruption.VERSION,
    }
    shown = clip.frames[np.searchsorted(clip.indices, found.frames)]
    yield Shot(row["id"], shown, times=(found.clock / clip.rate).tolist())


def joined(row: dict, spoilt: dict[str, dict]) -> dict:
  """A row of candidates with the captions of its corrupted video behind."""
  if row["id"] not in spoilt:
    return row
  return row | {"captions": row["captions"] + spoilt[row["id"]]["captions"]}
