"""Sizes of frames that follow their video, as the processors of Qwen-VL do.

A frame keeps its shape, up to whole squares that become one token each, and has
as many as two limits in pixels and a budget of tokens allow. So the sizes are a
finite set: whole squares, no more than the budget.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import UInt8

RATIO = 200  # of a frame's sides, at most
CHANGES = "the picture size changes along the way"


@dataclasses.dataclass(frozen=True)
class Follow:
  """The rule for one model.

  unit: pixels on a side of what becomes a token. together: frames that the
  tower reads as one. least, most: pixels of a frame, or where `whole` of all
  frames of a video. tokens: that a video may take, ours; the processors have no
  such limit.
  """

  unit: int
  together: int
  least: int
  most: int
  whole: bool
  tokens: int

  def __call__(self, frames: int, height: int, width: int) -> tuple[int, int]:
    """(Y, X) of the frames of a video of which so many are read.

    The processor's own size; where that takes more than `tokens`, the one it
    would give with an equal share of them as the limit of each frame. Raises
    ValueError for a video that the processor refuses, or whose shape needs more
    tokens.
    """
    if max(height, width) > RATIO * min(height, width):
      raise ValueError(f"frames of {width}x{height}: too long for this model")
    if self.whole and min(height, width) < self.unit:
      raise ValueError(
        f"frames of {width}x{height}: this model reads {self.unit} pixels at "
        "least; set pixels.resize=squash"
      )
    count = max(frames, self.together) if self.whole else 1
    size = self._within(height, width, count, self.least, self.most)
    steps = -(-frames // self.together)
    if steps * self.cells(size) > self.tokens:
      share = self.tokens // steps * self.unit**2
      size = self._within(height, width, 1, 0, share)
    if steps * self.cells(size) > self.tokens:
      raise ValueError(
        f"{steps} steps of {size[1]}x{size[0]} pixels take "
        f"{steps * self.cells(size)} tokens; raise pixels.tokens="
        f"{self.tokens}, or read fewer frames"
      )
    return size

  def _within(self, height, width, count, least, most) -> tuple[int, int]:
    """smart_resize of Qwen2-VL (count 1) and of Qwen3-VL."""
    unit = self.unit
    sides = [round(n / unit) * unit for n in (height, width)]
    paired = round(count / self.together) * self.together if count > 1 else 1
    if paired * math.prod(sides) > most:
      shrink = math.sqrt(count * height * width / most) if most else math.inf
      sides = [
        max(unit, math.floor(n / shrink / unit) * unit) for n in (height, width)
      ]
    elif paired * math.prod(sides) < least:
      grow = math.sqrt(least / (count * height * width))
      sides = [math.ceil(n * grow / unit) * unit for n in (height, width)]
    return sides[0], sides[1]

  def cells(self, size: tuple[int, int]) -> int:
    """Tokens of a step of frames of that size."""
    return math.prod(n // self.unit for n in size)

  def largest(self, frames: int) -> tuple[int, int]:
    """Nearly square, of the most tokens that `frames` frames may have each.

    Less what no such rectangle has: of 23 it is 4 x 5 that are planned.
    """
    steps = -(-frames // self.together)
    shared = steps * self.together if self.whole else 1
    cells = min(self.tokens // steps, self.most // (shared * self.unit**2))
    rows = max(1, math.isqrt(cells))
    return rows * self.unit, max(1, cells // rows) * self.unit


def stack(
  name, frames: list[UInt8[np.ndarray, "Y X 3"]]
) -> UInt8[np.ndarray, "F Y X 3"]:
  """Frames of a video as one array; raises ValueError if sizes differ."""
  sizes = sorted({(frame.shape[1], frame.shape[0]) for frame in frames})
  if len(sizes) > 1:
    told = " and ".join(f"{width}x{height}" for width, height in sizes)
    raise ValueError(
      f"{name}: {CHANGES} ({told} as read); re-encode it at one size, or set "
      "pixels.resize=squash, which gives all frames the same"
    )
  return np.stack(frames)
