"""What is read of a video to caption it, and which shots share a batch."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from synpo_jax.data import batches, video
from synpo_jax.models.config import CaptionerConfig

WAITING = 4  # batches of shots that may be held back to fill one of a kind
WHOLE = -1  # the part that is all of a video


class Shot(NamedTuple):
  """Something to be captioned: a video, or a part of one."""

  id: tuple[str, int]  # video id, part
  frames: UInt8[np.ndarray, "F Y X 3"]
  weak: UInt8[np.ndarray, "f Y X 3"] | None = None  # for contrastive decoding


class Text(NamedTuple):
  """One caption: as first written, after the second look, and its cost."""

  first: str
  last: str
  tokens: int  # generated in both passes


def read(
  name, path: str | Path, rule: Callable, prepare: Callable, *, contrast: bool
) -> tuple[Shot, video.Clip]:
  """A video as a shot, and the clip it was taken from.

  With `contrast` the shot has weak frames too: (n + 2) // 3 for n frames,
  spread over the whole video on their own, as in the official release. Both
  sets are decoded in one go, and `clip.frames` holds them together.
  """
  if not contrast:
    clip = video.read(path, rule, prepare)
    return Shot(name, clip.frames), clip
  wanted = {}

  def both(duration, total):
    full = rule(duration, total)
    weak = video.spread(0, total - 1, video.contrast_count(len(full)))
    wanted.update(full=full, weak=weak)
    return np.union1d(full, weak)

  clip = video.read(path, both, prepare)
  places = (np.searchsorted(clip.indices, wanted[x]) for x in ("full", "weak"))
  return Shot(name, *(clip.frames[place] for place in places)), clip


def has_contrast(shot: Shot) -> bool:
  """Whether the weak frames are others than the full ones."""
  return shot.weak is not None and len(shot.weak) < len(shot.frames)


def grouped(
  shots: Iterable[Shot],
  bucket: Callable[[int], int],
  *,
  size: int,
  contrast: bool,
) -> Iterator[list[Shot]]:
  """Batches of up to `size` shots whose frames fill the same bucket.

  A shot waits for others of its kind, but not for ever: where WAITING batches
  of shots are held, those go that hold the one waiting longest. Raises
  ValueError for a shot without the weak frames that contrast needs.
  """
  pools, waiting = {}, 0
  for shot in shots:
    if contrast and shot.weak is None:
      raise ValueError(f"{shot.id}: contrast needs the shot's weak frames")
    key = bucket(len(shot.frames))
    pools.setdefault(key, []).append(shot)
    waiting += 1
    if len(pools[key]) < size:
      if waiting < WAITING * size:
        continue
      key = next(iter(pools))
    group = pools.pop(key)
    waiting -= len(group)
    yield group
  yield from pools.values()


def frame_bucket(config: CaptionerConfig, buckets, count: int) -> int:
  """Frames that a shot of `count` is padded to; whole steps of the tower.

  Raises ValueError where no bucket is large enough.
  """
  step = config.frames_per_step
  whole = np.array([-(-count // step) * step])
  try:
    return int(batches.round_up(whole, buckets)[0])
  except ValueError as error:
    raise ValueError(f"frame_buckets: {error} frames; add one") from None


def stack(clips: list[np.ndarray], rows: int, frames: int, step: int):
  """(uint8 [rows, frames, Y, X, 3], real frames of each clip).

  Zeros behind a clip's own frames; a last step that is not whole is filled
  with its last frame.
  """
  out = np.zeros((rows, frames, *clips[0].shape[1:]), np.uint8)
  counts = []
  for row, clip in enumerate(clips):
    missing = -len(clip) % step
    clip = np.concatenate([clip, clip[-1:].repeat(missing, axis=0)])
    out[row, : len(clip)] = clip
    counts.append(len(clip))
  return out, counts
