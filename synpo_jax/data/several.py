"""A row's list of frame files, or of videos, as one video.

Its name is the list in JSON, so that it is a text wherever a video's name is.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from synpo_jax.data import frame_size, video
from synpo_jax.data.limits import Budget, Limits

PICTURES = frozenset(
  (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
)
MANY = 1e9  # seconds: a rule takes as many frames as it may


class Parts(NamedTuple):
  """The files of a list, in order: videos, or pictures that are frames."""

  paths: tuple[Path, ...]

  def __str__(self):
    return ", ".join(map(str, self.paths))


def name_of(parts: list[str]) -> str:
  """The name of a list of files; of one file, its own."""
  return parts[0] if len(parts) == 1 else json.dumps(parts, ensure_ascii=False)


def parts_of(name: str) -> list[str]:
  """The names that `name_of` was given."""
  if name.startswith('["') and name.endswith('"]'):
    return json.loads(name)
  return [name]


def read(parts: Parts, rule, prepare=None, limits: Limits | None = None):
  """The video.Clip of a list; arguments as those of video.read.

  Frames that are files count as a second apart, and as many are taken as the
  rule may take. Of several videos it takes those that it would of one video
  with all their frames. Raises FileNotFoundError or ValueError, one line.
  """
  pictures = [path.suffix.lower() in PICTURES for path in parts.paths]
  if all(pictures):
    return _of_pictures(parts, rule, prepare or np.asarray, limits)
  if any(pictures):
    raise ValueError(f"{parts}: pictures and videos in one list")
  return _of_videos(parts, rule, prepare, limits)


def _of_pictures(parts: Parts, rule, prepare, limits) -> video.Clip:
  total = len(parts.paths)
  indices = rule(MANY, total)
  frames = [_picture(parts.paths[i], prepare, limits) for i in indices.tolist()]
  return video.Clip(
    frame_size.stack(parts, frames), float(total), total, indices, 0
  )


def _picture(path: Path, prepare, limits) -> np.ndarray:
  budget = Budget(path, limits)
  try:
    with Image.open(path) as image:
      budget.check_size(*image.size)
      return prepare(np.array(image.convert("RGB")))
  except (UnidentifiedImageError, SyntaxError, ValueError) as error:
    raise ValueError(f"{path}: cannot be read as a picture ({error})") from None


def _of_videos(parts: Parts, rule, prepare, limits) -> video.Clip:
  spans = [_span(path, limits) for path in parts.paths]
  ends = np.cumsum([total for _, total in spans])
  duration, total = sum(span for span, _ in spans), int(ends[-1])
  indices = rule(duration, total)
  frames = []
  for path, end, (_, own) in zip(parts.paths, ends, spans, strict=True):
    chosen = indices[(indices >= end - own) & (indices < end)] - (end - own)
    if len(chosen):
      asked = _chosen(path, chosen, own)
      frames += list(video.read(path, asked, prepare, limits).frames)
  return video.Clip(
    frame_size.stack(parts, frames), duration, total, indices, 0
  )


def _span(path: Path, limits) -> tuple[float, int]:
  """Seconds of a video, and its frames that can be decoded."""

  def first(duration, total):
    return np.zeros(1, np.int64)

  clip = video.read(path, first, None, limits)
  return clip.duration, clip.total


def _chosen(path: Path, indices, own: int):
  def rule(duration, total):
    if total != own:
      raise ValueError(f"{path}: decoding it twice gave different frames")
    return indices

  return rule
