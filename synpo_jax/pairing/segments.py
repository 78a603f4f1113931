"""Where a video is cut before its parts are captioned (official release)."""

import numpy as np
from jaxtyping import Int

from synpo_jax.data import video

SECONDS, FEWEST, MOST = 10.0, 2, 16


def segments(duration: float, total: int) -> list[tuple[int, int]]:
  """Half-open frame ranges that cover the video, in order.

  k = clamp(floor(duration / 10 s) + 1, 2, 16) ranges of total // k frames,
  the last one takes the rest. Unlike in the release neighbours share no
  frame, and a video of fewer than k frames has as many ranges as frames.

  Raises ValueError for a video without frames.
  """
  if total < 1:
    raise ValueError("a video without frames cannot be cut")
  count = min(total, max(FEWEST, min(MOST, int(duration // SECONDS) + 1)))
  size = total // count
  starts = [index * size for index in range(count)]
  return list(zip(starts, [*starts[1:], total], strict=True))


def sample(ranges: list, count: int) -> Int[np.ndarray, "S F"]:
  """Frame indices of each range: `count` spread over it, both ends included.

  A range of fewer frames repeats some, so that all have the same number.
  """
  return np.stack([video.spread(a, b - 1, count) for a, b in ranges])
