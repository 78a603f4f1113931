"""Token merging against plain loops and the official release's schedule."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synpo_jax.models import tome
from synpo_jax.models.tower_config import (
  merges_per_layer,
  token_counts,
  tokens_per_frame,
)
from synpo_jax.weights.config_reading import tower_config
from tests.support.paths import GOLDEN


def config(image=378, patch=14, layers=32, ratio=1.0):
  return tower_config(
    dict(
      model_type="clip_vision_model",
      image_size=image,
      patch_size=patch,
      num_hidden_layers=layers,
      kept_ratio=ratio,
    ),
    feature_layer=-1,
  )


def test_schedule_is_the_official_one():
  golden = np.load(GOLDEN / "tome_schedule.npz")
  cases = zip(
    golden["image_patch_layers_h_w"].tolist(),
    golden["ratio"].tolist(),
    golden["r"],
    golden["token_counts"],
    strict=True,
  )
  for (image, patch, layers, height, width), ratio, merges, counts in cases:
    c = config(image, patch, layers, ratio)
    assert merges_per_layer(c, height, width) == merges
    ours = token_counts(c, height, width)
    assert ours == tuple(counts[counts >= 0])
    tapped = dataclasses.replace(c, tap=layers - 1, image_size=height)
    assert tokens_per_frame(tapped) == counts[layers - 1] - 1


@pytest.mark.parametrize("tokens, kept", [(4, 3), (5, 3), (6, 4), (7, 4)])
def test_no_layer_merges_more_than_half(tokens, kept):
  c = config(layers=1, ratio=0.01)
  assert token_counts(c, 14, 14 * (tokens - 1)) == (tokens, kept)


def test_merging_asked_in_vain_is_an_error():
  with pytest.raises(ValueError, match="kept_ratio 0.0: give"):
    token_counts(config(ratio=0.0))
  siglip = dict(model_type="siglip_vision_model", kept_ratio=0.5)
  with pytest.raises(ValueError, match="a siglip tower lacks"):
    token_counts(tower_config(siglip, feature_layer=-1))


def cheapest(counts, most):
  """Slots of the best split, trying every one."""
  layers = len(counts) - 1
  cuts = itertools.chain.from_iterable(
    itertools.combinations(range(1, layers), n) for n in range(most)
  )
  return min(
    sum(
      counts[start] * (stop - start)
      for start, stop in zip((0, *cut), (*cut, layers), strict=True)
    )
    for cut in cuts
  )


@pytest.mark.parametrize("most", [1, 2, 3, 9])
@pytest.mark.parametrize("ratio, layers", [(1.0, 7), (0.5, 7), (0.01, 8)])
def test_stages_cover_all_layers_at_least_cost(most, ratio, layers):
  counts = token_counts(config(224, 14, layers, ratio))
  stages = tome.stages(counts, most)
  covered = [n for s in stages for n in range(s.start, s.stop)]
  assert covered == list(range(layers)) and len(stages) <= most
  assert all(s.slots == counts[s.start] for s in stages)
  cost = sum(s.slots * (s.stop - s.start) for s in stages)
  assert cost == cheapest(counts, most)
  if ratio == 1.0:
    assert len(stages) == 1


def merge_numpy(x, metric, sizes, merges):
  """One frame in float64 loops; also each token's new place."""
  even, odd = range(0, len(x), 2), range(1, len(x), 2)
  metric = metric / np.linalg.norm(metric, axis=-1, keepdims=True)
  best = {e: max(odd, key=lambda o: metric[e] @ metric[o]) for e in even}
  score = {e: metric[e] @ metric[best[e]] for e in even if e > 0}
  leaving = sorted(score, key=score.get, reverse=True)[:merges]
  order = [e for e in even if e not in leaving] + list(odd)
  place = [order.index(best[t] if t in leaving else t) for t in range(len(x))]
  new_sizes, new = np.zeros(len(order)), np.zeros((len(order), x.shape[1]))
  for token, slot in enumerate(place):
    new_sizes[slot] += sizes[token]
    new[slot] += sizes[token] * x[token]
  return new / new_sizes[:, None], new_sizes, place


@pytest.mark.parametrize("slots, live, merges", [(14, 14, 6), (15, 10, 4)])
def test_merge_matches_loops_and_leaves_spare_slots_empty(slots, live, merges):
  rng = np.random.default_rng(slots)
  x, metric = rng.normal(size=(2, 3, slots, 5)).astype(np.float32)
  sizes = rng.integers(1, 300, size=(3, slots)).astype(np.float32)
  x[:, live:], metric[:, live:], sizes[:, live:] = 7.0, 7.0, 0.0

  @jax.jit
  def ours(x, metric, sizes, live, merges):
    where = tome.destinations(metric, live, merges)
    return *tome.merge(x, sizes, where), where

  out, out_sizes, where = ours(
    x, metric, sizes, jnp.asarray(live), jnp.asarray(merges)
  )
  assert not out[:, live - merges :].any()
  for frame in range(3):
    new, new_sizes, place = merge_numpy(
      *(np.float64(a[frame, :live]) for a in (x, metric, sizes)), merges
    )
    kept = live - merges
    np.testing.assert_array_equal(where[frame, :live], place)
    np.testing.assert_array_equal(where[frame, live:], slots)
    np.testing.assert_array_equal(out_sizes[frame, :kept], new_sizes)
    np.testing.assert_allclose(out[frame, :kept], new, atol=2e-6)


def test_equal_scores_leave_in_order():
  same = jnp.ones((1, 9, 4))
  where = tome.destinations(same, 9, 2)[0]
  # evens 2 and 4 join the first odd; 0, 6, 8 stay in front of 1, 3, 5, 7
  np.testing.assert_array_equal(where, [0, 3, 3, 4, 3, 5, 1, 6, 2])
