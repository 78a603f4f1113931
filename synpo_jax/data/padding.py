"""Lengths that rows are padded to: few, as each is a program to compile."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from synpo_jax.data.token_rows import Rows

Bucket = tuple[int, int, int]  # lengths of prefix and response, frames
TOO_LONG = 1e12  # a position more than any row has costs as much as these


def round_up(lengths: Int[np.ndarray, "N"], steps) -> Int[np.ndarray, "N"]:
  """Smallest bucket that holds each length.

  `steps` is an int, whose multiples are the buckets, or an ascending sequence
  of buckets; a length beyond the last of them is an error.
  """
  if isinstance(steps, int):
    return -(-lengths // steps) * steps
  steps = np.asarray(steps)
  if lengths.size and lengths.max() > steps[-1]:
    raise ValueError(f"no bucket of {steps.tolist()} holds {lengths.max()}")
  return steps[np.searchsorted(steps, lengths)]


def bucket_sizes(
  rows: Rows, prefix_buckets, response_buckets, frame_buckets
) -> Int[np.ndarray, "N 3"]:
  """(P, R, F) that each row is padded to; R fits its longest caption."""
  longest = rows.response.lengths().reshape(-1, rows.captions).max(axis=1)
  frames = round_up(rows.frames, frame_buckets)
  return np.stack(
    [
      round_up(rows.prefix.lengths(), prefix_buckets),
      round_up(longest, response_buckets),
      np.where(rows.frames > 0, frames, 0),
    ],
    axis=1,
  )


def joined(
  sizes: Int[np.ndarray, "N 3"], captions: int, most: int
) -> Int[np.ndarray, "N 3"]:
  """The same rows in at most `most` buckets, with few positions padded.

  Prefixes are cut into ranges, and the responses of each into ranges of its
  own, or the other way round, where that pads least, by dynamic programming.
  No bucket is longer than the longest was (P + captions * R) where that can
  be. Rows without video stay among themselves, in one bucket at least.
  """
  video = sizes[:, 2] > 0
  parts = [np.flatnonzero(x) for x in (video, ~video) if x.any()]
  longest = (sizes[:, 0] + captions * sizes[:, 1]).max(initial=0)
  cuts = [_best_cuts(sizes[x], captions, most, longest) for x in parts]
  out = np.empty_like(sizes)
  for rows, found, count in zip(parts, cuts, _shares(cuts, most), strict=True):
    group = found.groups(count)
    for number in np.unique(group):
      own = rows[group == number]
      out[own] = sizes[own].max(axis=0)
  return out


class _Cuts(NamedTuple):
  """Ways to cut rows into at most 1, 2 ... buckets.

  cost: positions that each way pads to. p, r: indices of the rows' lengths
  along the outer and the inner axis. outer: [j, m] -> (where the range before
  j begins, its buckets), for at most m + 1 buckets. inner: [i, j, k, b] ->
  where the k-th bucket of the range i to j begins that ends at b.
  """

  cost: Float[np.ndarray, " M"]
  p: Int[np.ndarray, "N"]
  r: Int[np.ndarray, "N"]
  outer: Int[np.ndarray, "J M 2"]
  inner: dict[int, Int[np.ndarray, "M J R"]]

  def groups(self, count: int) -> Int[np.ndarray, "N"]:
    """The bucket of each row, for at most `count` of them."""
    group, number = np.zeros(len(self.p), np.int64), 0
    stop, left = len(self.outer) - 1, count - 1
    while stop > 0:
      start, buckets = self.outer[stop, left]
      end = self.inner[start].shape[2] - 1
      for k in range(buckets - 1, -1, -1):
        first = self.inner[start][k, stop - start - 1, end]
        inside = (self.p >= start) & (self.p < stop) & (self.r >= first)
        group[inside & (self.r < end)] = number
        number, end = number + 1, first
      stop, left = start, left - buckets
    return group


def _shares(cuts: list[_Cuts], most: int) -> list[int]:
  """How many buckets rows with and without video get, each one at least."""
  if len(cuts) < 2:
    return [most]
  most = max(most, 2)
  first, second = (found.cost for found in cuts)
  ways = [(first[m - 1] + second[most - m - 1], m) for m in range(1, most)]
  return [min(ways)[1], most - min(ways)[1]]


def _best_cuts(sizes, captions, most, longest) -> _Cuts:
  """By prefix first or by response first, whichever pads less."""
  most = max(most, 2)  # which _shares asks for
  prefix, response = sizes[:, 0], captions * sizes[:, 1]
  ways = [
    _cuts(prefix, response, most, longest),
    _cuts(response, prefix, most, longest),
  ]
  return min(ways, key=lambda found: found.cost[-1])


def _cuts(outer, inner, most, longest) -> _Cuts:
  lengths, p = np.unique(outer, return_inverse=True)
  widths, r = np.unique(inner, return_inverse=True)
  below = np.zeros((len(lengths) + 1, len(widths) + 1))  # of both lengths
  np.add.at(below, (p + 1, r + 1), 1)
  below = below.cumsum(0).cumsum(1)
  total = lengths[:, None] + widths
  total = total + TOO_LONG * (total > longest)
  J = len(lengths)
  cost = np.full((J + 1, most + 1), np.inf)  # up to j, in at most m buckets
  cost[0], came, back = 0, np.zeros((J + 1, most, 2), np.int64), {}
  within = np.full((J, J + 1, most), np.inf)  # [i, j, k]
  for i in range(J):
    within[i, i + 1 :], back[i] = _ranges(below, total, i, most)
  for j in range(1, J + 1):
    for m in range(most):
      # [i, k]: k + 1 buckets for the range i to j, the others before it.
      ways = cost[:j, m::-1] + within[:j, j, : m + 1]
      i, k = np.unravel_index(np.argmin(ways), ways.shape)
      cost[j, m + 1], came[j, m] = ways[i, k], (i, k + 1)
  return _Cuts(cost[J, 1:], p, r, came, back)


def _ranges(below, total, i, most):
  """Of outer ranges that begin at i: costs [J, most], begins [most, J, R].

  A bucket may be empty, so that k of them are at most k.
  """
  rows = below[i + 1 :] - below[i]  # [J, R + 1]
  R = rows.shape[1]
  place = np.where(np.diff(rows) > 0, np.arange(R - 1), 0)
  longest = np.maximum.accumulate(place, axis=1)  # with rows, up to here
  length = np.take_along_axis(total[i:], longest, axis=1)
  count = rows[:, None, 1:] - rows[:, :-1, None]  # [J, a, b]
  each = np.where(count > 0, count * length[:, None, :], 0.0)
  each = np.where(np.arange(R - 1)[:, None] <= np.arange(R - 1), each, np.inf)
  best = np.full((len(rows), R), np.inf)
  best[:, 0], costs, begins = 0, [], []
  for _ in range(most):
    ways = best[:, :-1, None] + each
    best = np.pad(ways.min(axis=1), ((0, 0), (1, 0)))
    costs.append(best[:, -1])
    begins.append(np.pad(ways.argmin(axis=1), ((0, 0), (1, 0))))
  return np.stack(costs, axis=1), np.stack(begins)
