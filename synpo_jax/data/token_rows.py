"""All pairs of a run as tokens: lists of different lengths, end to end."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Ragged(NamedTuple):
  """Rows of different lengths end to end, cheap to hand to processes."""

  values: Int[np.ndarray, "n"]
  starts: Int[np.ndarray, "m"]  # one more than rows

  def __getitem__(self, row: int) -> Int[np.ndarray, "_"]:
    return self.values[self.starts[row] : self.starts[row + 1]]

  def __len__(self) -> int:
    return len(self.starts) - 1

  def lengths(self) -> Int[np.ndarray, "_"]:
    """Length of each row."""
    return np.diff(self.starts)


def ragged(rows: Sequence[Sequence[int]]) -> Ragged:
  """Packs lists of token ids as int32."""
  starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
  values = np.fromiter((i for row in rows for i in row), np.int32, starts[-1])
  return Ragged(values, starts)


class Rows(NamedTuple):
  """All pairs as tokens; N rows of C captions."""

  prefix: Ragged  # N
  response: Ragged  # N * C: row by row: chosen, rejected, gold; or a list
  pair: Int[np.ndarray, "N"]  # index in the table of pairs
  video: Int[np.ndarray, "N"]  # number of the video, -1 for none
  frames: Int[np.ndarray, "N"]
  captions: int  # C, of the longest list; shorter ones end with empty captions
  scores: Float[np.ndarray, "N C"] | None = None  # of lists, above the worst
