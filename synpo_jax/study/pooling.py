"""Rows of one method over its seeds as one figure with its error."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from synpo_jax.world.scores import mean_and_error


class Figure(NamedTuple):
  """A value and its standard error, None where it has none."""

  value: float
  error: float | None

  def beyond(self) -> int:
    """1 or -1 where it is two errors above or below 0, else 0."""
    if self.error is None or abs(self.value) <= 2 * self.error:
      return 0
    return 1 if self.value > 0 else -1


def select(rows: Sequence[dict], regime: str, kind: str) -> dict[str, list]:
  """Method -> its rows of a regime and kind, in the rows' order."""
  found = {}
  for row in rows:
    if (row["regime"], row["kind"]) == (regime, kind):
      found.setdefault(row["method"], []).append(row)
  return found


def over_seeds(rows: Sequence[dict], key: str) -> Figure | None:
  """Mean over seeds and its standard error; None where no row has the key."""
  values = [row[key] for row in rows if row.get(key) is not None]
  return Figure(*mean_and_error(values)) if values else None


def f1_difference(rows: Sequence[dict], others: Sequence[dict]) -> Figure:
  """Mean F1 of rows minus that of others, each clip compared with itself.

  The error joins that over clips, of means over seeds, and those over seeds.
  """
  mine, theirs = (
    np.array([row["f1_by_clip"] for row in each]) for each in (rows, others)
  )
  value, clips = mean_and_error(mine.mean(0) - theirs.mean(0))
  errors = [clips, *(mean_and_error(a.mean(1))[1] for a in (mine, theirs))]
  known = [error for error in errors if error is not None]
  return Figure(value, math.hypot(*known))


def difference(rows: Sequence[dict], others: Sequence[dict], key) -> Figure:
  """Mean over seeds of rows minus that of others, and its error."""
  mine, theirs = over_seeds(rows, key), over_seeds(others, key)
  known = [one.error for one in (mine, theirs) if one.error is not None]
  error = math.hypot(*known) if known else None
  return Figure(mine.value - theirs.value, error)
