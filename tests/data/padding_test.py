"""Lengths that rows are padded to, and which of them are left."""

import itertools

import numpy as np
import pytest

from synpo_jax.data import padding


def test_rounding_up():
  lengths = np.array([0, 1, 31, 32, 33])
  np.testing.assert_array_equal(
    padding.round_up(lengths, 32), [0, 32, 32, 32, 64]
  )
  np.testing.assert_array_equal(
    padding.round_up(lengths, (16, 40)), [16, 16, 40, 40, 40]
  )
  with pytest.raises(ValueError, match="no bucket of \\[16, 32\\] holds 33"):
    padding.round_up(lengths, (16, 32))


def made(rng, count=3000):
  """Sizes as a run has them: 0, 8 or 16 frames, captions of all lengths."""
  prefix = padding.round_up(36 + 110 * rng.integers(8, 17, count), 16)
  response = padding.round_up(rng.integers(30, 760, count), 32)
  frames = rng.choice([0, 8, 16], count, p=[0.05, 0.35, 0.6])
  sizes = np.stack([prefix, response, frames], axis=1)
  return sizes[prefix + response < 2500]


def padded(sizes):
  return int((sizes[:, 0] + 2 * sizes[:, 1]).sum())


@pytest.mark.parametrize(("most", "more"), [(8, 1.25), (16, 1.15)])
def test_few_buckets_are_left_of_many_lengths(most, more):
  """Each holds its rows; nothing is longer than need be; little is padded."""
  sizes = made(np.random.default_rng(0))
  assert len(np.unique(sizes, axis=0)) > 200
  now = padding.joined(sizes, 2, most)
  assert most // 2 < len(np.unique(now, axis=0)) <= most
  assert (now >= sizes).all() and ((now[:, 2] > 0) == (sizes[:, 2] > 0)).all()
  before, after = (s[:, 0] + 2 * s[:, 1] for s in (sizes, now))
  assert after.max() == before.max()
  assert after.sum() < more * before.sum()
  np.testing.assert_array_equal(padding.joined(now, 2, most), now)


def cut(sizes, starts):
  """Padded positions of rows in ranges of prefixes that begin so."""
  total = 0
  for low, high in itertools.pairwise([*starts, sizes[:, 0].max() + 1]):
    inside = sizes[(sizes[:, 0] >= low) & (sizes[:, 0] < high)]
    if len(inside):
      total += len(inside) * padded(inside.max(axis=0)[None])
  return total


@pytest.mark.parametrize("seed", range(5))
def test_no_cut_of_the_prefixes_pads_less(seed):
  rng = np.random.default_rng(seed)
  sizes = np.stack([rng.integers(1, 9, 40), rng.integers(1, 5, 40)], axis=1)
  sizes = np.pad(sizes, ((0, 0), (0, 1)), constant_values=8)
  sizes[-1] = (8, 4, 8)  # no union is longer
  best = padded(padding.joined(sizes, 2, 3))
  lengths = np.unique(sizes[:, 0])
  for starts in itertools.combinations(lengths[1:], 2):
    assert best <= cut(sizes, (lengths[0], *starts))


def test_one_bucket_is_as_long_as_its_rows_and_text_stays_apart():
  ladder = np.array([[2048, 128, 8], [128, 1024, 8], [128, 1024, 0]])
  whole = [[2048, 1024, 8], [2048, 1024, 8], [128, 1024, 0]]
  np.testing.assert_array_equal(padding.joined(ladder, 2, 1), whole)
  text = ladder[2:]
  np.testing.assert_array_equal(padding.joined(text, 2, 8), text)
