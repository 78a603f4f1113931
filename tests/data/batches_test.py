"""Plans of epochs and the arrays of updates, whoever makes them."""

from collections import Counter

import numpy as np
import pytest

from synpo_jax.data import batches, padding, token_rows
from synpo_jax.data.batches import FILLER

# ---- The plan of an epoch.


def random_sizes(rng):
  rows = int(rng.integers(1, 60))
  options = [(32, 64), (8, 16, 24), (0, 4, 8)]
  columns = [rng.choice(o[: rng.integers(1, 4)], rows) for o in options]
  return np.stack(columns, axis=1)


@pytest.mark.parametrize("seed", range(40))
def test_every_row_comes_once_an_epoch_in_a_bucket_that_holds_it(seed):
  rng = np.random.default_rng(seed)
  sizes, group = random_sizes(rng), int(rng.integers(1, 9))
  epochs = [
    batches.plan(sizes, group=group, seed=seed, epoch=e) for e in range(3)
  ]
  assert len({len(plan) for plan in epochs}) == 1
  for plan in epochs:
    rows = np.concatenate([rows for _, rows in plan])
    np.testing.assert_array_equal(
      np.sort(rows[rows != FILLER]), np.arange(len(sizes))
    )
    for bucket, rows in plan:
      real = rows[rows != FILLER]
      assert len(rows) == group and len(real) > 0
      assert (rows[: len(real)] == real).all()  # filler stands at the end
      assert (sizes[real] <= bucket).all()
      assert ((sizes[real, 2] > 0) == (bucket[2] > 0)).all()


def test_few_updates_are_partly_filled():
  sizes = np.array([[32, r, 8] for r in (8, 16, 24) for _ in range(7)])
  plan = batches.plan(sizes, group=5, seed=0, epoch=0)
  assert len(plan) == 5  # 21 rows: four whole updates and a rest of one
  assert sorted((rows != FILLER).sum() for _, rows in plan) == [1, 5, 5, 5, 5]


def test_epochs_and_seeds_shuffle_rows_and_updates():
  sizes = np.full((64, 3), 8)
  plans = [
    batches.plan(sizes, group=4, seed=s, epoch=e)
    for s, e in ((0, 0), (0, 1), (1, 0), (0, 0))
  ]
  order = [np.concatenate([rows for _, rows in p]).tolist() for p in plans]
  assert order[0] == order[3] and len({str(o) for o in order}) == 3
  assert sorted(order[0][:4]) != [0, 1, 2, 3]
  many = np.array([[32, 8, 4]] * 64 + [[32, 16, 4]] * 64)
  plan = batches.plan(many, group=4, seed=0, epoch=0)
  kinds = [bucket for bucket, _ in plan]
  assert kinds != sorted(kinds)


# ---- The arrays of an update.


def made_rows(rng, count, captions=2):
  """Rows of random tokens; odd rows have no video."""
  prefix = [rng.integers(1, 99, rng.integers(3, 20)) for _ in range(count)]
  answers = [
    rng.integers(1, 99, rng.integers(2, 12)) for _ in range(count * captions)
  ]
  video_of = np.where(np.arange(count) % 2, -1, rng.integers(0, 3, count))
  return token_rows.Rows(
    token_rows.ragged([p.tolist() for p in prefix]),
    token_rows.ragged([a.tolist() for a in answers]),
    pair=rng.permutation(100)[:count],
    video=video_of,
    frames=np.where(video_of >= 0, video_of + 1, 0),
    captions=captions,
  )


def visual(number):
  """Video 0, 1, 2 has 1, 2, 3 frames, all pixels of frame f 10 n + f + 1."""
  shade = 10 * number + np.arange(1, number + 2)
  return np.tile(shade[:, None, None, None], (1, 2, 3, 3)).astype(np.uint8)


def make_batches(rows, index=0, count=1, batch_size=4, accumulation=2):
  sizes = padding.bucket_sizes(rows, 16, (8, 12), (2, 4))
  return batches.Batches(
    rows,
    sizes,
    visual,
    visual_key="frames",
    batch_size=batch_size,
    accumulation=accumulation,
    epochs=2,
    seed=3,
    process_index=index,
    process_count=count,
  )


@pytest.mark.parametrize("captions", [1, 2])
def test_arrays_hold_each_row_padded_on_its_side(captions):
  rows = made_rows(np.random.default_rng(0), 21, captions)
  at = {int(pair): row for row, pair in enumerate(rows.pair)}
  source, seen = make_batches(rows), Counter()
  for i in range(len(source)):
    batch = source[i]
    for a, b in np.ndindex(batch.row.shape):
      if batch.row[a, b] == FILLER:
        assert batch.weight[a, b] == 0
        assert batch.prefix_mask[a, b].any()  # a real pair, for finiteness
        assert batch.response_mask[a, b].any(axis=-1).all()
        continue
      row = at[int(batch.row[a, b])]
      seen[row] += 1
      assert batch.weight[a, b] == 1
      P = batch.prefix.shape[-1]
      ids = list(rows.prefix[row])
      assert batch.prefix[a, b].tolist() == [0] * (P - len(ids)) + ids
      assert batch.prefix_mask[a, b].tolist() == [
        p >= P - len(ids) for p in range(P)
      ]
      for c in range(captions):
        ids = list(rows.response[row * captions + c])
        R = batch.response.shape[-1]
        padded = ids + [0] * (R - len(ids))
        assert batch.response[a, b, c].tolist() == padded
        mask = batch.response_mask[a, b, c].tolist()
        assert mask == [r < len(ids) for r in range(R)]
      number = int(rows.video[row])
      if number < 0:
        assert batch.frames is None
        continue
      frames = batch.frames[a, b]
      np.testing.assert_array_equal(frames[: number + 1], visual(number))
      assert not frames[number + 1 :].any()
  assert seen == {row: 2 for row in range(21)}  # two epochs


def test_types_and_axes():
  batch = make_batches(made_rows(np.random.default_rng(1), 9))[0]
  arrays = {k: x for k, x in batch._asdict().items() if x is not None}
  kinds = {name: str(array.dtype) for name, array in arrays.items()}
  frames = kinds.pop("frames", "uint8")
  assert frames == "uint8"
  assert kinds == {
    "prefix": "int32",
    "prefix_mask": "bool",
    "response": "int32",
    "response_mask": "bool",
    "weight": "float32",
    "row": "int32",
  }
  assert all(array.shape[:2] == (2, 4) for array in arrays.values())


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_together_hold_the_batch_of_one(processes):
  rows = made_rows(np.random.default_rng(2), 21)
  whole = make_batches(rows)
  parts = [make_batches(rows, p, processes) for p in range(processes)]
  assert len({len(part) for part in (whole, *parts)}) == 1
  for i in range(len(whole)):
    split = [part[i] for part in parts]
    for array, *shares in zip(whole[i], *split, strict=True):
      if array is None:
        assert shares == [None] * processes
        continue
      joined = np.concatenate(shares, axis=1)
      np.testing.assert_array_equal(joined, array)


def test_a_process_reads_only_its_own_videos():
  rows, asked = made_rows(np.random.default_rng(2), 20), []
  part = make_batches(rows, 0, 4)
  part.visual = lambda number: asked.append(number) or visual(number)
  for i in range(part.per_epoch):
    asked.clear()
    part[i]
    assert len(asked) in (0, 2)  # one pair in each of two micro-batches


def test_a_batch_that_does_not_split_is_refused():
  rows = made_rows(np.random.default_rng(0), 5)
  with pytest.raises(ValueError, match="batch_size=4 must be a multiple of"):
    make_batches(rows, 0, 3)


def test_rows_are_grouped_anew_and_the_smallest_update_is_known():
  rows = made_rows(np.random.default_rng(3), 21)
  batches = make_batches(rows)
  for accumulation in (1, 3):
    other = batches.grouped(accumulation)
    numbers = [other.numbers(i) for i in range(other.per_epoch)]
    assert {x.shape for x in numbers} == {(accumulation, 4)}
    real = [x[x != FILLER] for x in numbers]
    assert sorted(np.concatenate(real)) == list(range(21))
    assert other.fewest() == min(map(len, real))
  assert batches.shape == (2, 4)
