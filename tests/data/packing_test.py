"""Which pairs share a row, and the arrays of rows that hold several."""

import itertools

import numpy as np
import pytest

from synpo_jax.data import batches, packing, padding, token_rows
from synpo_jax.data.batch import SEGMENTS
from synpo_jax.data.batches import FILLER
from synpo_jax.data.stream import Stream

COUNT, LENGTH = 23, 64


def make_rows(seed=0):
  rng = np.random.default_rng(seed)
  prompts = [rng.integers(1, 99, rng.integers(3, 20)) for _ in range(COUNT)]
  told = [rng.integers(1, 99, rng.integers(1, 12)) for _ in range(2 * COUNT)]
  return token_rows.Rows(
    token_rows.ragged([p.tolist() for p in prompts]),
    token_rows.ragged([t.tolist() for t in told]),
    pair=rng.permutation(COUNT),
    video=np.full(COUNT, -1),
    frames=np.zeros(COUNT, int),
    captions=2,
  )


def make(rows, index=0, count=1, length=LENGTH, seed=5, **sizes):
  sizes = dict(batch_size=4, accumulation=2, shards=2) | sizes
  packed = packing.make(
    rows, length, **sizes, seed=seed, ids=[f"p{n}" for n in range(COUNT)]
  )
  return batches.Batches(
    rows,
    padding.bucket_sizes(rows, 16, (8, 12), (2,)),
    None,
    visual_key="frames",
    batch_size=4,
    accumulation=2,
    epochs=3,
    seed=seed,
    process_index=index,
    process_count=count,
    packing=packed,
  )


def read(batch):
  """{pair: (prompt, captions)} of a batch, from its segments alone."""
  found, packed = {}, batch.packed
  steps, rows, places = packed.begins.shape[:3]
  pairs = batch.row.reshape(steps, rows, places)
  for a, n, k in np.ndindex(steps, rows, places):
    if pairs[a, n, k] == FILLER:
      continue
    parts = []
    for part in range(3):
      own = packed.segments[a, n] == 1 + part + k * SEGMENTS
      start = len(parts[0]) if part else 0
      places_of = packed.positions[a, n][own].tolist()
      assert places_of == [start + i for i in range(own.sum())]
      parts.append(packed.tokens[a, n][own].tolist())
      if part:  # each caption token is told by the one before it
        begin = packed.begins[a, n, k, part - 1]
        scored = slice(begin, begin + own.sum())
        assert packed.targets[a, n, scored].tolist() == parts[-1]
        before = packed.before[a, n, scored]
        prompt = packed.segments[a, n] == 1 + k * SEGMENTS
        first = np.flatnonzero(prompt)[-1]
        assert before.tolist() == [first, *np.flatnonzero(own)[:-1]]
    found[int(pairs[a, n, k])] = parts
  return found


def test_an_epoch_holds_each_pair_once_and_whole():
  rows, at = make_rows(), {}
  source = make(rows)
  for row, pair in enumerate(rows.pair.tolist()):
    told = [rows.response[2 * row + c].tolist() for c in range(2)]
    at[pair] = [rows.prefix[row].tolist(), *told]
  for epoch in range(2):
    found = {}
    for index in range(source.per_epoch):
      batch = source[epoch * source.per_epoch + index]
      assert (batch.weight == (batch.row != FILLER)).all()
      assert batch.response_mask.any(axis=-1).all()  # a real pair, repeated
      held = read(batch)
      assert not held.keys() & found.keys()
      found |= held
    assert found == at


def test_rows_are_full_and_updates_near_what_is_asked():
  packed = make(make_rows()).packing
  sizes = packing.lengths(make_rows())
  filled = [sizes[row[row != FILLER]].sum() for row in packed.rows]
  assert max(filled) <= LENGTH and sum(filled) == sizes.sum()
  best = int(np.ceil(sizes.sum() / LENGTH))
  assert len(packed.rows) <= best + 1
  for each, size, steps, shards in itertools.product(
    (1.0, 2.7, 4.4), (1, 8, 32), (1, 4), (1, 8)
  ):
    cut, rows = packing.cut(each, size, steps, shards)
    assert rows % shards == 0
    if each * shards <= size:  # else one row a device is more than is asked
      assert 0.6 < cut * rows * each / (size * steps) < 1.5


def test_a_run_goes_on_to_the_bit_and_a_seed_says_which_pairs_meet():
  rows = make_rows()
  whole = list(Stream(make(rows), 0))
  again = Stream(make(rows), 0)
  again.set_state({"next": 2})
  for batch, wanted in zip(again, whole[2:], strict=True):
    for array, its in zip(batch.packed, wanted.packed, strict=True):
      np.testing.assert_array_equal(array, its)
    np.testing.assert_array_equal(batch.row, wanted.row)
  orders = [make(rows).numbers(n).tolist() for n in range(2)]
  assert orders[0] != make(rows, seed=6).numbers(0).tolist()
  assert make(rows).digest != make(rows, seed=6).digest
  assert make(rows).digest != make(rows, accumulation=4).digest


def test_processes_read_their_rows_of_the_same_update():
  whole, parts = make(make_rows()), [make(make_rows(), n, 2) for n in (0, 1)]
  for index in range(whole.per_epoch):
    ours, *theirs = (source[index] for source in (whole, *parts))
    flat = [[*batch[:6], *batch.packed] for batch in theirs]
    wanted = [*ours[:6], *ours.packed]
    for *told, array in zip(*flat, wanted, strict=True):
      np.testing.assert_array_equal(np.concatenate(told, axis=1), array)


def test_a_pair_that_no_row_holds_is_named():
  rows = make_rows()
  sizes = packing.lengths(rows)
  name = f"p{rows.pair[sizes.argmax()]}"
  told = f"data.packing=30: .* pair {name} take {sizes.max()} positions; set"
  with pytest.raises(ValueError, match=told):
    make(rows, length=30)
