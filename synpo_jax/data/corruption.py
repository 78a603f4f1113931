"""Videos corrupted on purpose: other frames, or the same in another order.

What is written of them is a caption of something else, so it serves as the
rejected one. The kinds are those of Tarsier2, arXiv:2501.07888 (clips switched,
reversed, cropped, down-sampled); how much of a video they touch is ours.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

VERSION = "corruption-2026-12-a"
PARTS = 4  # of a video, two of which change places
STRIDE = 4  # frames of which one stays


class Corrupted(NamedTuple):
  """Frames of a video in the order in which they are shown.

  clock: the frames whose times are told with them, as if nothing had happened.
  """

  kind: str
  frames: Int[np.ndarray, "F"]
  clock: Int[np.ndarray, "F"]


def corrupt(
  name: str,
  seed: int,
  kinds: Sequence[str],
  rule: Callable[[float, int], Int[np.ndarray, "F"]],
  duration: float,
  total: int,
) -> Corrupted:
  """A video corrupted by one of the kinds; seed and name decide all of it.

  Args:
    kinds: keys of KINDS, one of which is drawn.
    rule: which frames would be shown; a video.FrameRule.
    duration, total: seconds and frames of the video.

  Raises:
    ValueError: the rule gives a single frame.
  """
  key = hashlib.sha256(f"{seed} {name} corrupted".encode()).digest()
  rng = np.random.default_rng(int.from_bytes(key[:8], "big"))
  frames = rule(duration, total)
  if len(frames) < 2:
    raise ValueError(f"{name}: a single frame has no order to corrupt")
  kind = kinds[int(rng.integers(len(kinds)))]
  return Corrupted(kind, *KINDS[kind](rng, frames, rule, duration, total))


def _swap(rng, frames, *_):
  """Two of its four parts in each other's place."""
  parts = np.array_split(frames, min(PARTS, len(frames)))
  one, other = rng.choice(len(parts), 2, replace=False)
  parts[one], parts[other] = parts[other], parts[one]
  return np.concatenate(parts), frames


def _reverse(rng, frames, *_):
  """A half of it, beginning anywhere, from its end to its start."""
  count = max(2, len(frames) // 2)
  start = int(rng.integers(len(frames) - count + 1))
  order = np.arange(len(frames))
  order[start : start + count] = order[start : start + count][::-1]
  return frames[order], frames


def _crop(rng, frames, rule, duration, total):
  """A half of it, beginning anywhere, as if that were all."""
  count = max(1, total // 2)
  start = int(rng.integers(total - count + 1))
  inner = rule(duration * count / total, count)
  return inner + start, inner


def _downsample(rng, frames, *_):
  """One of four of its frames."""
  kept = frames[int(rng.integers(min(STRIDE, len(frames)))) :: STRIDE]
  return kept, kept


KINDS = {
  "swap": _swap,
  "reverse": _reverse,
  "crop": _crop,
  "downsample": _downsample,
}


def check(kinds: Sequence[str]) -> None:
  """Raises ValueError, in one line, for kinds that there are not."""
  for kind in kinds:
    if kind not in KINDS:
      raise ValueError(
        f"corrupted.kinds: {kind!r} is none of {', '.join(KINDS)}"
      )
  if not kinds:
    raise ValueError(f"corrupted.kinds: name some of {', '.join(KINDS)}")
