"""How much of one video is read before it is given up."""

import dataclasses
import time
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Limits:
  """The `limits` section of a config: what a video may cost, each above 0.

  seconds: of reading and decoding it. frames: that are counted or decoded.
  pixels: of one frame, as it is shown. bytes: of the file.
  """

  seconds: float | int
  frames: int
  pixels: int
  bytes: int

  def __post_init__(self):
    for name, value in dataclasses.asdict(self).items():
      if not value > 0:  # NaN neither
        raise ValueError(f"limits.{name}={value}: give a number above 0")


class Budget:
  """What is left of the limits while one video is read.

  Its methods raise ValueError, one line that names file and limit, where
  nothing is left. Without limits all is allowed.
  """

  def __init__(self, path: Path, limits: Limits | None):
    self._path, self._limits = path, limits
    self._start = time.monotonic()
    if limits is not None and (size := path.stat().st_size) > limits.bytes:
      raise ValueError(f"{path}: {size:,} bytes, {self._most('bytes')}")

  @property
  def seconds(self) -> float | None:
    """Time that is left; None without a limit."""
    if self._limits is None:
      return None
    gone = time.monotonic() - self._start
    return max(0.0, self._limits.seconds - gone)

  @property
  def pixels(self) -> int | None:
    """Most pixels of a frame; None without a limit."""
    return None if self._limits is None else self._limits.pixels

  def check_frame(self, number: int) -> None:
    """Is there time, and room, for frame `number`, counted from 1?"""
    if self._limits is None:
      return
    if number > self._limits.frames:
      raise ValueError(f"{self._path}: too many frames, {self._most('frames')}")
    if not self.seconds:
      raise self.late()

  def check_size(self, width: int, height: int) -> None:
    """May a frame have so many pixels?"""
    if self._limits is not None and width * height > self._limits.pixels:
      raise ValueError(
        f"{self._path}: frames of {width} x {height}, {self._most('pixels')}"
      )

  def late(self) -> ValueError:
    """The error of a video that takes too long."""
    return ValueError(f"{self._path}: takes too long, {self._most('seconds')}")

  def _most(self, name: str) -> str:
    value = getattr(self._limits, name)
    return f"limits.{name}={value} is the most"
