"""Video files to sampled frames: uint8 RGB, only what is asked for is kept.

A file is read twice: once without decoding, to count its frames and measure
its length from the time stamps of its packets (what headers say is only
compared), then decoded, from key frame to key frame where that saves half of
the work. The indices are always those that the rule gives for the frames
that can really be decoded.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from absl import logging
from av.sidedata.sidedata import Type as SideData
from jaxtyping import Int, UInt8
from PIL import Image

from synpo_jax.data import container, frame_size
from synpo_jax.data.limits import Budget, Limits
from synpo_jax.runtime import buckets

SUFFIXES = frozenset(
  (
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif", ".ts", ".mts"),
    *(".m2ts", ".mpg", ".mpeg", ".vob", ".flv", ".f4v", ".wmv", ".asf", ".ogv"),
    *(".3gp", ".3g2", ".mxf", ".dv"),
  )
)

RESAMPLE = {
  "bicubic": Image.Resampling.BICUBIC,
  "bilinear": Image.Resampling.BILINEAR,
  "lanczos": Image.Resampling.LANCZOS,
}


class Clip(NamedTuple):
  """The sampled frames of one video and what they were sampled from."""

  frames: UInt8[np.ndarray, "F Y X 3"]
  duration: float  # seconds, the last frame's own time included
  total: int  # frames that can be decoded
  indices: Int[np.ndarray, "F"]  # of `frames`, in order of presentation
  promised: int  # frames the header speaks of; 0 where it says nothing

  @property
  def rate(self) -> float:
    """Frames per second."""
    return self.total / self.duration if self.duration else math.inf

  @property
  def times(self) -> tuple[float, ...]:
    """Seconds from the start to each frame, by their rate."""
    return tuple((self.indices / self.rate).tolist())


ROUNDING = {"down": np.trunc, "nearest": np.round}


def spread(
  first: int, last: int, count: int, rounding: str = "down"
) -> Int[np.ndarray, "n"]:
  """`count` frame indices from first to last, both included.

  Truncated points of a float64 linspace, as in the official release: integer
  arithmetic picks other frames in some cases. rounding: a key of ROUNDING.
  """
  points = np.linspace(first, last, count)
  return ROUNDING[rounding](points).astype(np.int64)


def contrast_count(count: int) -> int:
  """Frames of the contrast branch beside `count` frames of the full one."""
  return (count + 2) // 3


@dataclasses.dataclass(frozen=True)
class FrameRule:
  """How many frames are taken from a video, and which (official release).

  `frames_per_second` frames of each second, but at least `min_frames` and at
  most `max_frames`, never more than there are; `fixed` overrides all of it.
  rounding: a key of ROUNDING; Qwen3-VL's processor takes the nearest.
  """

  min_frames: int
  max_frames: int
  frames_per_second: float | int
  fixed: int | None = None
  rounding: str = "down"

  def __post_init__(self):
    if self.rounding not in ROUNDING:
      raise ValueError(
        f"frames.rounding={self.rounding!r}: choose one of "
        f"{', '.join(ROUNDING)}"
      )
    if not 1 <= self.min_frames <= self.max_frames:
      raise ValueError(
        f"frames: min_frames={self.min_frames} and max_frames="
        f"{self.max_frames} must satisfy 1 <= min_frames <= max_frames"
      )
    if self.fixed is not None and self.fixed < 1:
      raise ValueError(f"frames: fixed={self.fixed} must be at least 1")

  def count(self, duration: float, total: int) -> int:
    """Frames to take from a video of `duration` seconds and `total` frames."""
    if self.fixed is not None:
      return self.fixed
    wanted = int(duration * self.frames_per_second)
    return min(total, max(self.min_frames, min(self.max_frames, wanted)))

  def __call__(self, duration: float, total: int) -> Int[np.ndarray, "F"]:
    """Indices of the frames to take, ascending."""
    count = self.count(duration, total)
    return spread(0, total - 1, count, self.rounding)


@dataclasses.dataclass(frozen=True)
class Preprocess:
  """How a frame becomes pixels of a fixed size (Y, X).

  crop: scaled until it covers the size, then the centre is cut out;
  squash: scaled to the size, whatever its shape.
  follow: scaled to the size that `rule` gives for its video; `size` is none.
  """

  size: tuple[int | None, int | None]
  resize: str = "crop"
  resample: str = "bicubic"  # a key of RESAMPLE
  rule: frame_size.Follow | None = None

  def __post_init__(self):
    ways = ("crop", "squash") if self.rule is None else ("follow",)
    known = {"resize": ways, "resample": tuple(RESAMPLE)}
    for field, choices in known.items():
      if (value := getattr(self, field)) not in choices:
        raise ValueError(
          f"pixels.{field}={value!r}: choose one of {', '.join(choices)}"
        )


def preprocess(
  frame: UInt8[np.ndarray, "y x 3"], form: Preprocess, count: int = 1
) -> UInt8[np.ndarray, "Y X 3"]:
  """Resizes with Pillow's antialiasing filters; no scaling to floats here.

  count: frames that are read of its video. Raises ValueError where `form.rule`
  has no size for it.
  """
  rows, columns = form.size
  if form.rule is not None:
    rows, columns = form.rule(count, *frame.shape[:2])
  image, resample = Image.fromarray(frame), RESAMPLE[form.resample]
  if form.resize != "crop":
    return np.asarray(image.resize((columns, rows), resample))
  image = image.resize(_cover(image.width, image.height, form.size), resample)
  left, top = (image.width - columns) // 2, (image.height - rows) // 2
  return np.asarray(image.crop((left, top, left + columns, top + rows)))


def _cover(width: int, height: int, size: tuple[int, int]) -> tuple[int, int]:
  """Smallest (width, height) of the same shape that covers size (Y, X)."""
  rows, columns = size
  if rows * width >= columns * height:
    return int(rows * width / height), rows
  return columns, int(columns * height / width)


def counted(rule: Callable, prepare: Callable) -> tuple[Callable, Callable]:
  """(rule, prepare) for `read`, of a `prepare` that takes (frame, frames).

  It is told how many frames the rule asked for.
  """
  asked = [1]

  def noted(duration, total):
    indices = rule(duration, total)
    asked[0] = len(indices)
    return indices

  return noted, lambda frame: prepare(frame, asked[0])


def read(
  path: str | Path,
  rule: Callable[[float, int], Int[np.ndarray, "F"]],
  prepare: Callable | None = None,
  limits: Limits | None = None,
) -> Clip:
  """Decodes the frames that `rule(duration, total)` asks for.

  Args:
    path: a video file, or one in a bucket, of which a copy is read; the
      container is recognised by content.
    rule: a FrameRule, or any function from the duration in seconds and the
      number of frames to frame indices in [0, total).
    prepare: applied to each kept frame [y, x, 3] as soon as it is decoded, so
      that full-size frames are never held together.
    limits: what reading it may cost; None for no limit.

  Raises:
    FileNotFoundError, ValueError: one line that names the file and says why.
  """
  path = buckets.at(path)
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such video file")
  if path.stat().st_size == 0:
    raise ValueError(f"{path}: the file is empty")
  with buckets.on_disk(path) as local:
    clip = _clip(local, rule, prepare or np.asarray, limits)
  if clip.promised and clip.total < clip.promised:
    logging.warning(
      "%s: only %d of the %d frames promised can be decoded; using those",
      *(path, clip.total, clip.promised),
    )
  return clip


def _clip(path: Path, rule, prepare, limits) -> Clip:
  budget = Budget(path, limits)
  keep = functools.partial(_picture, prepare=prepare, budget=budget)
  try:
    return _read(path, rule, keep, budget)
  except av.error.FFmpegError as error:
    reason = f"{type(error).__name__}: {error.strerror}"
    raise ValueError(f"{path}: cannot be read as video ({reason})") from error


def _read(path, rule, keep, budget: Budget) -> Clip:
  """Plans on the packets, decodes, and plans again if they did not hold."""
  with container.opened(path, budget) as (file, stream):
    line = container.timeline(path, file, stream, budget)
  duration, total = line.duration, len(line.times)
  indices = rule(duration, total)
  kept = None
  if line.seekable and container.cost(line.keys, indices) * 2 <= total:
    kept = container.by_seeking(path, line, indices, keep, budget)
  for _ in range(2):
    if kept is not None:
      break
    found = container.sequentially(path, indices, keep, budget)
    kept, found, span = found
    if found != total:
      kept, duration, total = None, span, found
      indices = rule(duration, total)
  if kept is None:
    raise ValueError(f"{path}: decoding it twice gave different frames")
  frames = frame_size.stack(path, [kept[i] for i in indices.tolist()])
  return Clip(frames, duration, total, indices, line.promised)


def _picture(
  frame: av.VideoFrame, shape: Fraction, prepare, budget: Budget
) -> UInt8[np.ndarray, "Y X 3"]:
  """RGB pixels the way they are meant to be looked at.

  shape: width of a pixel by its height. Where it is not 1 the picture grows
  along one axis, as players do (container.shown_size); the official release
  shows such videos squeezed.
  """
  size = container.shown_size(frame.width, frame.height, shape)
  budget.check_size(*size)
  picture = frame.to_ndarray(format="rgb24")
  if size != (frame.width, frame.height):
    image = Image.fromarray(picture)
    picture = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
  matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
  if matrix is not None:
    picture = upright(picture, np.frombuffer(bytes(matrix), np.int32))
  return prepare(np.ascontiguousarray(picture))


def upright(
  picture: UInt8[np.ndarray, "y x 3"], matrix: Int[np.ndarray, "9"]
) -> UInt8[np.ndarray, "Y X 3"]:
  """Applies a display matrix: quarter turns and mirrors, as players do.

  The matrix maps (x, y) to (a x + c y, b x + d y), a, b, c, d being its
  elements 0, 1, 3, 4; other angles are left as they are.
  """
  a, b, c, d = np.sign(matrix[[0, 1, 3, 4]]).tolist()
  if b and c and not (a or d):
    picture, a, d = picture.swapaxes(0, 1), c, b
  return picture[:: d or 1, :: a or 1]
