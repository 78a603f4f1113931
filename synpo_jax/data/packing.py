"""Several pairs end to end in a row of a fixed length, instead of padding.

Which pairs share a row is the same in all epochs; an epoch puts the rows in an
order of its own.
"""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from synpo_jax.data.batch import SEGMENTS, Packed
from synpo_jax.data.token_rows import Rows

FILLER = -1


class Packing(NamedTuple):
  """How the pairs of a run lie in rows, and how rows make an update.

  length: positions of a row. rows: numbers of the pairs in each, FILLER in
  empty places. scored: most caption tokens of a row. shape: micro-batches of
  an update, and rows in each.
  """

  length: int
  rows: Int[np.ndarray, "M K"]
  scored: int
  shape: tuple[int, int]

  @property
  def group(self) -> int:
    """Rows in an update."""
    return self.shape[0] * self.shape[1]

  def plan(self, seed: int, epoch: int) -> list[Int[np.ndarray, "G K"]]:
    """Rows of the updates of an epoch; the last is filled with empty rows."""
    rng = np.random.default_rng([seed, epoch])
    rows = self.rows[rng.permutation(len(self.rows))]
    short = -len(rows) % self.group
    rows = np.pad(rows, ((0, short), (0, 0)), constant_values=FILLER)
    return list(rows.reshape(-1, self.group, rows.shape[1]))


def make(
  rows: Rows,
  length: int,
  *,
  batch_size: int,
  accumulation: int,
  shards: int,
  seed: int,
  ids: Sequence[str],
) -> Packing | None:
  """Packs all pairs into rows of `length` positions; None for length 0.

  An update has about the batch_size x accumulation pairs that it had in rows
  of its own each, in micro-batches that `shards` devices split. ids: of the
  table of pairs. Raises ValueError for a pair that no row holds.
  """
  if not length:
    return None
  sizes = lengths(rows)
  longest = int(np.argmax(sizes))
  check_fits(length, int(sizes[longest]), ids[rows.pair[longest]])
  filled = bins(sizes, length, seed)
  table = np.full((len(filled), max(map(len, filled))), FILLER, np.int64)
  for row, numbers in zip(table, filled, strict=True):
    row[: len(numbers)] = numbers
  told = rows.response.lengths().reshape(-1, rows.captions).sum(axis=1)
  scored = max(int(told[numbers].sum()) for numbers in filled)
  each = len(sizes) / len(filled)
  return Packing(
    length, table, scored, cut(each, batch_size, accumulation, shards)
  )


def check_fits(length: int, size: int, name: str) -> None:
  """Raises ValueError for a pair of more positions than a row has."""
  if size > length:
    raise ValueError(
      f"data.packing={length}: prompt and captions of pair {name} take {size} "
      "positions; set it to as many at least, lower data.max_len, or set "
      "data.packing=0"
    )


def lengths(rows: Rows) -> Int[np.ndarray, "N"]:
  """Positions that each pair takes: its prompt once, and all its captions."""
  told = rows.response.lengths().reshape(-1, rows.captions)
  return rows.prefix.lengths() + told.sum(axis=1)


def bins(
  sizes: Int[np.ndarray, "N"], length: int, seed: int
) -> list[list[int]]:
  """Numbers of the pairs in each row: best-fit decreasing.

  The longest first, each into the row that it leaves the least room in; equal
  ones in an order that the seed draws.
  """
  order = np.random.default_rng(seed).permutation(len(sizes))
  order = order[np.argsort(-sizes[order], kind="stable")]
  least, free, filled = int(sizes.min()), [], []
  for number in order.tolist():
    size = int(sizes[number])
    place = bisect.bisect_left(free, (size, -1))
    if place == len(free):
      room, row = length, len(filled)
      filled.append([])
    else:
      room, row = free.pop(place)
    filled[row].append(number)
    if room - size >= least:
      bisect.insort(free, (room - size, row))
  return filled


def cut(
  each: float, batch_size: int, accumulation: int, shards: int
) -> tuple[int, int]:
  """(micro-batches of an update, rows in each) for `each` pairs a row."""
  rows = shards * max(1, round(batch_size / each / shards))
  pairs = batch_size * accumulation
  return max(1, round(pairs / each / rows)), rows


def repeated(numbers: Int[np.ndarray, "G K"]) -> Int[np.ndarray, "G K"]:
  """The rows of an update, empty ones as copies of the first."""
  empty = (numbers == FILLER).all(axis=1, keepdims=True)
  return np.where(empty, numbers[:1], numbers)


def laid(
  rows: Rows, numbers: Int[np.ndarray, "A N K"], packing: Packing
) -> Packed:
  """The arrays of rows of pairs; where one has none, its first pair's place."""
  *_, K = numbers.shape
  found = [_row(rows, pairs, packing) for pairs in numbers.reshape(-1, K)]
  stacked = (np.stack(arrays) for arrays in zip(*found, strict=True))
  return Packed(*(x.reshape(*numbers.shape[:2], *x.shape[1:]) for x in stacked))


def _row(rows: Rows, pairs: Int[np.ndarray, " K"], packing: Packing) -> Packed:
  """The arrays of one row."""
  tokens, positions, segments = np.zeros((3, packing.length), np.int32)
  before, targets = np.zeros((2, packing.scored), np.int32)
  begins = np.zeros((len(pairs), rows.captions), np.int32)
  at = told = 0
  for k, pair in enumerate(pairs.tolist()):
    if pair == FILLER:
      begins[k] = begins[0]
      continue
    prefix = rows.prefix[pair]
    end = at + len(prefix)
    tokens[at:end], segments[at:end] = prefix, 1 + k * SEGMENTS
    positions[at:end] = np.arange(len(prefix))
    last, at = end - 1, end
    for c in range(rows.captions):
      ids = rows.response[pair * rows.captions + c]
      begins[k, c], end, stop = told, at + len(ids), told + len(ids)
      tokens[at:end], targets[told:stop] = ids, ids
      segments[at:end] = 2 + c + k * SEGMENTS
      positions[at:end] = len(prefix) + np.arange(len(ids))
      before[told:stop] = [last, *range(at, end - 1)][: len(ids)]
      at, told = end, stop
  return Packed(tokens, positions, segments, before, targets, begins)
