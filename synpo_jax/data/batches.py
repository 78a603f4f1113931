"""Which pairs go into which update, and the arrays of one update.

The plan of an epoch is a pure function of the rows' sizes, the seed and the
epoch, so all processes agree on it without talking, and any update of any
epoch can be made from its number alone.
"""

import copy
import functools
import hashlib
import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from synpo_jax.data import packing as packs
from synpo_jax.data.batch import Batch
from synpo_jax.data.padding import Bucket
from synpo_jax.data.token_rows import Rows

IMAGE_TOKEN = -200  # a placeholder id: one visual embedding goes here
IMAGE_ROW, IMAGE_STEP = -201, -202  # as well, at the start of a row, of a step
FILLER = packs.FILLER


def plan(
  sizes: Int[np.ndarray, "N 3"], *, group: int, seed: int, epoch: int
) -> list[tuple[Bucket, Int[np.ndarray, "G"]]]:
  """Updates of an epoch: each a bucket and `group` rows, FILLER at the end.

  Every row comes exactly once. Rows left over from a bucket move up to the
  next one that holds them, so that few updates are only partly filled: none
  of a chain of growing buckets but its last.
  """
  rng = np.random.default_rng([seed, epoch])
  pools, updates = defaultdict(list), []
  for row, size in enumerate(sizes.tolist()):
    pools[tuple(size)].append(row)
  ladder = sorted(pools)
  for step, bucket in enumerate(ladder):
    rows = rng.permutation(np.array(pools[bucket], np.int64))
    whole = len(rows) // group * group
    updates += [(bucket, r) for r in rows[:whole].reshape(-1, group)]
    rest = rows[whole:].tolist()
    above = (b for b in ladder[step + 1 :] if _holds(b, bucket))
    target = next(above, None)
    if target is not None:
      pools[target] += rest
    elif rest:
      filled = rest + [FILLER] * (group - len(rest))
      updates.append((bucket, np.array(filled, np.int64)))
  return [updates[i] for i in rng.permutation(len(updates))]


def _holds(larger: Bucket, smaller: Bucket) -> bool:
  """Text-only rows (no frames) stay among themselves."""
  fits = all(a >= b for a, b in zip(larger, smaller, strict=True))
  return fits and (larger[2] > 0) == (smaller[2] > 0)


class Batches:
  """Batch of update i, for any i of all epochs, as this process sees it.

  A Batch has A micro-batches of the B pairs that are this process's: frames
  or features as `visual_key` says, ref_logps with `references` [N, C]. Where
  they are `flat`, those of all steps lie end to end as one, [A, B, 1, P, Dv]: a
  video has no more than its prompt has tokens, so sizes mix in a batch. With a
  `packing` they share rows, and B is places for pairs, some of them empty.
  """

  def __init__(
    self,
    rows: Rows,
    sizes: Int[np.ndarray, "N 3"],
    visual: Callable[[int], np.ndarray] | None,
    *,
    visual_key: str,
    batch_size: int,
    accumulation: int,
    epochs: int,
    seed: int,
    process_index: int,
    process_count: int,
    packing: packs.Packing | None = None,
  ):
    if batch_size % process_count:
      raise ValueError(
        f"data.batch_size={batch_size} must be a multiple of the number of "
        f"processes, {process_count}"
      )
    self.rows, self.sizes, self.seed, self.epochs = rows, sizes, seed, epochs
    self.visual, self.visual_key, self.frames_per_step = visual, visual_key, 1
    self.references, self.flat = None, False
    self.chosen = np.arange(len(rows.pair))  # the rows of an epoch
    self.batch_size, self._process = batch_size, (process_index, process_count)
    self._shape(accumulation, packing)

  def _shape(self, accumulation: int, packing: packs.Packing | None):
    """Sets how pairs come: in rows of a packing, or each in one of its own."""
    index, count = self._process
    self.packing, self.shape = packing, (accumulation, self.batch_size)
    if packing:
      steps, rows = packing.shape
      self.shape = steps, rows * packing.rows.shape[1]
    share = self.shape[1] // count
    self.mine = slice(index * share, (index + 1) * share)
    self._plans = {}
    self.per_epoch = len(self._plan(0))

  def __len__(self) -> int:
    return self.epochs * self.per_epoch

  @functools.cached_property
  def digest(self) -> str:
    """16 hex digits, others where tokens, videos or buckets of a row differ."""
    total = hashlib.blake2b(digest_size=8)
    rows = self.rows
    for array in (*rows.prefix, *rows.response, rows.video, rows.frames):
      total.update(np.ascontiguousarray(array))
    if rows.scores is not None:
      total.update(np.ascontiguousarray(rows.scores))
    total.update(np.ascontiguousarray(self.sizes))
    if self.packing:
      total.update(np.int64(self.packing.group).tobytes())
      total.update(np.ascontiguousarray(self.packing.rows))
    return total.hexdigest()

  def _plan(self, epoch: int):
    if epoch not in self._plans and self.packing:
      bucket = 0, *self.sizes[:, 1:].max(axis=0).tolist()
      groups = self.packing.plan(self.seed, epoch)
      self._plans = {epoch: [(bucket, rows.ravel()) for rows in groups]}
    elif epoch not in self._plans:
      group = math.prod(self.shape)
      sizes = self.sizes[self.chosen]
      fresh = plan(sizes, group=group, seed=self.seed, epoch=epoch)
      rows = np.append(self.chosen, FILLER)  # filler is the last, too
      self._plans = {epoch: [(b, rows[places]) for b, places in fresh]}
    return self._plans[epoch]

  def once(self, chosen: Int[np.ndarray, "n"]) -> "Batches":
    """Some of the rows, each once, a micro-batch at a time, unpacked."""
    other = copy.copy(self)
    other.chosen, other.epochs = chosen, 1
    return other.grouped(1)

  def grouped(self, accumulation: int) -> "Batches":
    """The same rows, so many micro-batches at a time of them, unpacked."""
    other = copy.copy(self)
    other._shape(accumulation, None)
    return other

  def fewest(self) -> int:
    """Pairs in the smallest update: alike in all epochs, as only rows move."""
    return min(int((rows != FILLER).sum()) for _, rows in self._plan(0))

  def numbers(self, index: int) -> Int[np.ndarray, "A B"]:
    """Rows in the batch of update `index`, of all processes, or FILLER."""
    epoch, position = divmod(index, self.per_epoch)
    return self._plan(epoch)[position][1].reshape(self.shape)

  def __getitem__(self, index: int) -> Batch:
    epoch, position = divmod(index, self.per_epoch)
    bucket, group = self._plan(epoch)[position]
    numbers = group.reshape(self.shape)[:, self.mine]
    real, packed = numbers != FILLER, None
    read = np.where(real, numbers, group[0])
    if self.packing:
      read, packed = self._packed(group)
    row = np.where(real, self.rows.pair[read], FILLER)
    batch = Batch(
      *_prompts(self.rows, read, bucket[0]),
      *_captions(self.rows, read, bucket[1]),
      weight=real.astype(np.float32),
      row=row.astype(np.int32),
      packed=packed,
    )
    if self.references is not None:
      batch = batch._replace(ref_logps=self.references[read])
    if self.rows.scores is not None:
      batch = batch._replace(scores=self.rows.scores[read])
    if not bucket[2]:
      return batch
    videos, some = self.rows.video[read], int(self.rows.video.max())
    if self.packing:
      videos = np.where(real, videos, -1)  # of empty places nobody reads any
    if self.flat:
      stacked = _stack(self._end_to_end, videos, 1, some, bucket[0])
    else:
      steps = bucket[2] // self.frames_per_step
      stacked = _stack(self.visual, videos, steps, some)
    return batch._replace(**{self.visual_key: stacked})

  def _end_to_end(self, number: int) -> np.ndarray:
    """Features [1, S * K, D] of all steps of a video."""
    made = self.visual(number)
    return made.reshape(1, -1, made.shape[-1])

  def _packed(self, group):
    """Of an update's packed rows this process's: what is read, and arrays."""
    steps, places = self.packing.shape[0], self.packing.rows.shape[1]
    numbers = packs.repeated(group.reshape(-1, places))
    numbers = numbers.reshape(steps, -1)[:, self.mine]
    numbers = numbers.reshape(steps, -1, places)
    read = np.where(numbers == FILLER, numbers[..., :1], numbers)
    packed = packs.laid(self.rows, numbers, self.packing)
    return read.reshape(steps, -1), packed


def _prompts(rows: Rows, read, P: int):
  """prefix and prefix_mask of a Batch; empty where rows are packed."""
  prefix = np.zeros((read.size, P), np.int32)
  mask = prefix > 0
  for place, row in enumerate(read.ravel().tolist() if P else ()):
    ids = rows.prefix[row]
    prefix[place, P - len(ids) :] = ids
    mask[place, P - len(ids) :] = True
  return prefix.reshape(*read.shape, P), mask.reshape(*read.shape, P)


def _captions(rows: Rows, read, R: int):
  """response and response_mask of a Batch."""
  C = rows.captions
  response = np.zeros((read.size * C, R), np.int32)
  mask = response > 0
  for place, row in enumerate(read.ravel().tolist()):
    for caption in range(C):
      ids = rows.response[row * C + caption]
      response[place * C + caption, : len(ids)] = ids
      mask[place * C + caption, : len(ids)] = True
  return response.reshape(*read.shape, C, R), mask.reshape(*read.shape, C, R)


def _stack(visual, videos, F: int, some: int, K: int | None = None):
  """Frames or features of videos, [A, B, F, ...], zero where none (-1).

  some: number of a video, whose shape all have but for its length. K: of the
  second axis, where it differs between rows.
  """
  stacked = None
  for place, number in enumerate(videos.ravel().tolist()):
    if number < 0 and stacked is not None:
      continue
    one = visual(number if number >= 0 else some)
    if stacked is None:
      inner = one.shape[1:] if K is None else (K, *one.shape[2:])
      stacked = np.zeros((videos.size, F, *inner), one.dtype)
    if number >= 0:
      stacked[place, : len(one), : one.shape[1]] = one
  return stacked.reshape(*videos.shape, *stacked.shape[1:])
