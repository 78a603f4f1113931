"""A tower taught by labels: the loss by hand, and a stop that loses nothing."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import warm_start
from synpo_jax.models import vit
from synpo_jax.study import seeing
from synpo_jax.training import metrics
from synpo_jax.weights.config_reading import tower_config
from synpo_jax.world import patches, rendering, staging

SIZES = warm_start.TOWER | dict(
  image_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=3
)


@pytest.fixture(scope="module")
def config():
  return tower_config(SIZES | dict(num_attention_heads=2), feature_layer=-2)


@pytest.fixture(scope="module")
def album():
  scenes = [staging.sample(seed) for seed in range(4)]
  moments = (0.0, 0.5)
  frames = [[rendering.picture(s, t, 32) for t in moments] for s in scenes]
  labels = [[patches.labels(s, t, 4) for t in moments] for s in scenes]
  return seeing.Album(np.array(frames), np.array(labels, np.int8))


@pytest.fixture(scope="module")
def tower(config):
  pixels = jnp.zeros((1, 32, 32, 3))
  return vit.Tower(config).init(jax.random.key(0), pixels)["params"]


def settings(updates):
  c = ml_collections.ConfigDict(warm_start.tower())
  c.update(updates=updates, pictures=4, every=2)
  return c


def test_tokens_share_the_labels_of_their_patches():
  share = seeing.share(jnp.array([[0, 1, 0, 1, 1]]), 3)
  wanted = [[0.5, 0, 0], [0, 1 / 3, 0], [0.5, 0, 0], [0, 1 / 3, 0]]
  wanted.append([0, 1 / 3, 0])
  np.testing.assert_allclose(share[0], wanted, rtol=1e-6)


def test_readers_that_know_nothing_pay_for_every_value(config, album, tower):
  """With zeros every value is as likely, so each label costs its logarithm."""
  weights = seeing.init(tower, jax.random.key(1))
  weights["readers"] = jax.tree.map(jnp.zeros_like, weights["readers"])
  frames, labels = album.frames[:, 0], album.labels[:, 0]
  measure = jax.jit(seeing.make_loss(config))
  loss, right = measure(weights, frames, labels)
  assert set(right) == set(patches.VALUES)
  least = sum(np.log(values) for values in patches.VALUES.values())
  most = least + seeing.OF_THINGS_WEIGHT * sum(
    np.log(patches.VALUES[name]) for name in patches.OF_THINGS
  )
  assert least < loss < most
  empty, _ = measure(weights, frames, labels * 0)
  np.testing.assert_allclose(empty, least, rtol=1e-5)


@pytest.mark.slow
def test_a_stopped_tower_goes_on_to_the_bit(config, album, tower, tmp_path):
  c = settings(4)
  whole = seeing.train(c, config, tower, album, tmp_path / "whole", 0)
  with pytest.raises(KeyboardInterrupt):
    interrupted(c, config, tower, album, tmp_path / "cut", after=3)
  again = seeing.train(c, config, tower, album, tmp_path / "cut", 0)
  jax.tree.map(np.testing.assert_array_equal, whole, again)
  rows = metrics.read_rows(tmp_path / "cut" / "metrics.jsonl")
  assert [row["step"] for row in rows] == [1, 2, 3, 4]
  assert not np.allclose(whole["positions"], tower["positions"])


def interrupted(c, config, tower, album, folder, *, after):
  """Trains until the pictures of update `after` are asked for."""
  pick = seeing.pick

  def stop(album, seed, step, size):
    if step == after:
      raise KeyboardInterrupt
    return pick(album, seed, step, size)

  seeing.pick = stop
  try:
    seeing.train(c, config, tower, album, folder, 0)
  finally:
    seeing.pick = pick


def test_it_learns(config, album, tower, tmp_path):
  c = settings(60)
  c.update(pictures=8, every=60)
  seeing.train(c, config, tower, album, tmp_path, 0)
  losses = [
    row["loss"] for row in metrics.read_rows(tmp_path / "metrics.jsonl")
  ]
  assert np.mean(losses[-5:]) < 0.85 * losses[0]
