"""From a file of pairs to the batches of a run, in any order of stopping.

Every update of every epoch is made from its number alone (batches.Batches),
so where a run stands in its data is one number (stream.Stream).
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from synpo_jax.data import (
  accounts,
  batches,
  chunks,
  frame_size,
  packing,
  padding,
  pairs,
  shards,
  token_rows,
  tokens,
  video,
)
from synpo_jax.data.chat_templates import Tokenizer
from synpo_jax.data.limits import Limits
from synpo_jax.runtime import exchange


@dataclasses.dataclass(frozen=True)
class Settings:
  """The `data` section of a config.

  pairs: files of rows (files.find). videos: folder that relative paths start
  from. cache: folder of decoded frames, shared by all runs. question: for
  rows without one, or None. template: key of text.TEMPLATES. min_score_gap:
  smallest gap that stays, None for all. max_len: positions of prompt and
  caption together. too_long: what happens to longer captions. *_buckets:
  lengths that prompts, captions and frames are padded to: an int for its
  multiples or an ascending list; near ones are joined until at most
  most_shapes are left of all. batch_size: pairs per micro-batch, all
  processes together. accumulation: micro-batches per update. workers:
  processes that decode, and that read ahead; 0 does it all in this one.
  packing: positions of a row that pairs share (data.packing), 0 for none.
  limits: the fields of limits.Limits, or None for none.
  """

  pairs: str
  videos: str
  cache: str
  question: str | None
  template: str
  min_score_gap: float | int | None
  max_len: int
  too_long: Literal["drop", "shorten"]
  prefix_buckets: int | Sequence[int]
  response_buckets: int | Sequence[int]
  frame_buckets: int | Sequence[int]
  most_shapes: int
  batch_size: int
  accumulation: int
  workers: int
  limits: dict[str, float | int] | None = None
  packing: int = 0


class Data(NamedTuple):
  """All that a run reads.

  batches[i] is what update i trains on; `row` in it indexes `pairs`. `frames`
  maps a number of `videos` to its uint8 [F, Y, X, 3]. `counts` says in words
  how many rows were used, changed or dropped; `dropped` lists the last, and
  `forms` says of what forms the rows are.
  """

  batches: batches.Batches
  pairs: list[pairs.Pair]
  videos: list[str]
  frames: chunks.Frames | None
  counts: dict[str, int]
  dropped: Sequence[accounts.Dropped] = ()
  forms: Sequence[str] = ()

  @property
  def updates_per_epoch(self) -> int:
    """Optimiser updates in an epoch, partly filled ones included."""
    return self.batches.per_epoch

  @property
  def updates(self) -> int:
    """Optimiser updates of the whole run: the length of the schedule."""
    return len(self.batches)

  @property
  def shapes(self) -> int:
    """Buckets of the rows: the most programs that an update compiles to."""
    packed, sizes = self.batches.packing, self.batches.sizes
    return 1 if packed else len(np.unique(sizes, axis=0))


def make(
  settings: Settings,
  *,
  rule: video.FrameRule,
  preprocess: video.Preprocess,
  tokenizer: Tokenizer,
  blocks: Callable[[int], list[int]],
  captions: int,
  epochs: int,
  seed: int,
  frames_per_step: int = 1,
  process_index: int = 0,
  process_count: int = 1,
  together: Callable[[str], None] = exchange.ALONE.together,
  shards: int = 1,
) -> Data:
  """Reads, checks, decodes and tokenises; the batches follow on demand.

  captions: 2 for pairs, 1 for the chosen alone, 3 with the gold one,
  lists.MOST for all that are judged. blocks:
  CaptionerConfig.blocks. frames_per_step: that the model reads together; a
  video has whole steps. together: waits for all processes. shards: devices,
  or groups of them, that split the rows of a micro-batch.

  Raises ValueError or FileNotFoundError, one line (or one per faulty row).
  """
  s = settings
  how = dict(question=s.question, min_score_gap=s.min_score_gap)
  read = pairs.read_pairs(s.pairs, captions=captions, **how)
  share = exchange.Share(process_index, process_count, together)
  kept, names, frames, lost = _with_videos(
    read.pairs, s, rule, preprocess, frames_per_step, share
  )
  rows, misfits, unfit = _tokenised(
    kept, names, frames, s, tokenizer, blocks, captions
  )
  counts = accounts.count(read, lost, misfits, len(rows.pair))
  if not len(rows.pair):
    raise ValueError(
      f"{s.pairs}: no row can be used ({accounts.summary(counts)})"
    )
  size = dict(batch_size=s.batch_size, accumulation=s.accumulation)
  ids = [pair.id for pair in kept]
  made = batches.Batches(
    rows,
    _sizes(rows, s, preprocess.rule is not None),
    frames,
    visual_key="frames",
    **size,
    epochs=epochs,
    seed=seed,
    process_index=process_index,
    process_count=process_count,
    packing=packing.make(
      rows, s.packing, **size, shards=shards, seed=seed, ids=ids
    ),
  )
  dropped = accounts.dropped(read, kept, unfit)
  said = accounts.forms(s.pairs, read) + accounts.of_lists(read, captions)
  return Data(made, kept, names, frames, counts, dropped, said)


def _tokenised(kept, names, frames, s: Settings, tokenizer, blocks, captions):
  """Rows of tokens, and what happened to those that do not fit."""
  numbers, lengths, times, shapes = _lookup(kept, names, frames)
  return tokens.tokenise(
    kept,
    numbers,
    lengths,
    tokenizer=tokenizer,
    template=s.template,
    blocks=blocks,
    captions=captions,
    limits=_limits(s),
    times=times,
    sizes=shapes,
    least_gap=s.min_score_gap,
  )


def _sizes(rows: token_rows.Rows, s: Settings, follow: bool):
  """The bucket of every row.

  Where sizes follow the video, features are padded to the prompt's length.
  """
  if follow:
    rows = rows._replace(frames=np.minimum(rows.frames, 1))
  sizes = padding.bucket_sizes(
    rows, s.prefix_buckets, s.response_buckets, s.frame_buckets
  )
  return padding.joined(sizes, rows.captions, s.most_shapes)


def with_features(
  data: Data,
  features: Callable[[int], np.ndarray],
  frames_per_step: int = 1,
  *,
  flat: bool = False,
) -> Data:
  """The same data with cached tower features in the place of frames.

  features: bfloat16 [S, K, D] of a number of `data.videos`, whose S steps are
  of `frames_per_step` frames each. flat: as batches.Batches has it.
  """
  swapped = copy.copy(data.batches)
  swapped.visual, swapped.visual_key = features, "features"
  swapped.frames_per_step, swapped.flat = frames_per_step, flat
  return data._replace(batches=swapped)


def with_references(data: Data, logps: Float[np.ndarray, "N C"]) -> Data:
  """The same data with the reference's summed log-probs of all N rows."""
  extended = copy.copy(data.batches)
  extended.references = np.asarray(logps, np.float32)
  return data._replace(batches=extended)


def _with_videos(read: list[pairs.Pair], s, rule, preprocess, step, share):
  """Rows whose video can be used; names, frames, counts of what is lost."""
  build = functools.partial(shards.build, share=share)
  store = decoded(read, s, rule, preprocess, build)
  if store is None:
    return read, [], None, {}
  names = list(store.places)
  kept = [p for p in read if p.video is None or p.video in store.places]
  lost = {
    "rows of text alone": sum(p.video is None for p in read),
    f"videos quarantined (see {store.report})": len(store.quarantined),
    f"of these because {frame_size.CHANGES}": sum(
      frame_size.CHANGES in reason for reason in store.quarantined.values()
    ),
    accounts.QUARANTINED: len(read) - len(kept),
  }
  places = list(store.places.values())
  frames = chunks.Frames(places, preprocess.size, step)
  return kept, names, frames, lost


def decoded(
  read: list[pairs.Pair], s: Settings, rule, preprocess, build: Callable
) -> shards.Store | None:
  """Where the decoded videos of rows are; None for rows of text alone.

  build: decodes what is not yet, shards.build or what takes the same.
  """
  wanted = [p.video for p in read if p.video is not None]
  if not wanted:
    return None
  located = pairs.locate(wanted, s.videos)
  return build(
    located.paths,
    s.cache,
    rule=rule,
    preprocess=preprocess,
    workers=s.workers,
    missing=located.missing,
    limits=None if s.limits is None else Limits(**s.limits),
  )


def check_seen(data: Data, settings: dict) -> None:
  """Raises ValueError where a captioner would learn from text alone.

  settings: the `data` section. Its `videos=""` says that this is meant.
  """
  if data.videos or not settings["videos"]:
    return
  raise ValueError(
    f"{settings['pairs']}: none of the rows used has a video "
    f"({accounts.summary(data.counts)}), so the captioner would train blind; "
    "name it as 'video' in each row, or set data.videos='' to train on text "
    "alone"
  )


def _lookup(kept: list[pairs.Pair], names: list[str], frames):
  """Of each pair: number of the video, its frames, their times and size."""
  number = {name: i for i, name in enumerate(names)} | {None: -1}
  numbers = [number[pair.video] for pair in kept]
  times = [frames.times(n) if n >= 0 else () for n in numbers]
  follows = frames is not None and frames.follows
  shapes = [frames.size(n) if follows and n >= 0 else None for n in numbers]
  return numbers, list(map(len, times)), times, shapes


def _limits(s: Settings) -> tokens.Limits:
  def longest(buckets):
    return None if isinstance(buckets, int) else max(buckets)

  return tokens.Limits(
    max_len=s.max_len,
    prefix=longest(s.prefix_buckets),
    response=longest(s.response_buckets),
    too_long=s.too_long,
  )
