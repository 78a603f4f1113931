"""The sampler against the official release's distributions and known cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synpo_jax.generation import sampling
from synpo_jax.generation.sampling import GREEDY, Sampling
from tests.support.paths import GOLDEN

FILE = GOLDEN / "sampler.npz"


def probabilities(logits, settings, eos_id):
  """Spreads a shortlist over the vocabulary, in NumPy."""
  weights, ids = sampling.shortlist(jnp.asarray(logits), settings)
  out = np.zeros(logits.shape)
  for row, (w, i) in enumerate(
    zip(np.asarray(weights), np.asarray(ids), strict=True)
  ):
    if np.isfinite(logits[row]).any():
      out[row, i] = np.exp(np.float64(w))
      out[row] /= out[row].sum()
    else:
      out[row, eos_id] = 1
  return out


@pytest.fixture(scope="module")
def golden():
  return np.load(FILE)


@pytest.mark.slow
def test_distribution_is_the_official_one(golden):
  """Every setting and every odd row (NaN, inf, dead, few finite)."""
  eos = int(golden["eos_token_id"])
  for s, want in enumerate(golden["probs"]):
    settings = Sampling(
      float(golden["temperature"][s]),
      int(golden["top_k"][s]),
      float(golden["top_p"][s]),
    )
    got = probabilities(golden["logits"], settings, eos)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_contrastive_distribution_is_the_official_one(golden):
  full, weak = golden["cd_full_logits"], golden["cd_contrast_logits"]
  weight = jnp.full(len(full), float(golden["cd_weight"]), jnp.float32)
  temperature, top_k, top_p = golden["cd_settings"].tolist()
  mixed = sampling.contrast(jnp.asarray(full), jnp.asarray(weak), weight, None)
  got = probabilities(
    np.asarray(mixed), Sampling(temperature, int(top_k), top_p), 2
  )
  np.testing.assert_allclose(got, golden["cd_probs"], atol=1e-5)


@pytest.mark.parametrize("top_p, want", [(0.4, 1), (0.6, 2), (0.9, 3)])
def test_top_p_drops_what_follows_the_first_strictly_greater(top_p, want):
  logits = np.log(np.float32([[0.5, 0.3, 0.15, 0.05]]))
  got = probabilities(logits, Sampling(1.0, 32, top_p), 0)
  assert (got > 0).sum() == want
  kept = np.float64([0.5, 0.3, 0.15, 0.05])[:want]
  np.testing.assert_allclose(got[0, :want], kept / kept.sum(), atol=1e-6)


def test_draws_follow_the_distribution(golden):
  """Frequencies of 20,000 draws lie within 4 standard errors."""
  settings, draws = Sampling(0.9, 5, 0.9), 20_000
  row = golden["logits"][:1]
  keys = jax.random.split(jax.random.key(0), draws)
  logits = jnp.broadcast_to(jnp.asarray(row), (draws, row.shape[1]))
  tokens = np.asarray(sampling.choose(keys, logits, settings, 2))
  want = probabilities(row, settings, 2)[0]
  got = np.bincount(tokens, minlength=len(want)) / draws
  assert (np.abs(got - want) <= 4 * np.sqrt(want * (1 - want) / draws)).all()


def test_greedy_is_argmax_and_a_dead_row_gives_eos():
  logits = np.float32([[0, 3, 1], [np.nan, -1, -2], [-np.inf] * 3])
  logits[0, 2] = np.inf  # an overflow, not a winner
  keys = jax.random.split(jax.random.key(0), 3)
  for settings in (GREEDY, Sampling(1.0, 1, 1.0)):
    got = sampling.choose(keys, jnp.asarray(logits), settings, 2)
    assert got.tolist() == [1, 1, 2]


def test_cutoff_keeps_plausible_tokens_and_weight_0_keeps_full():
  full = jnp.log(jnp.float32([[0.6, 0.3, 0.1]] * 2))
  weak = jnp.log(jnp.float32([[0.98, 0.01, 0.01]] * 2))
  got = sampling.contrast(full, weak, jnp.float32([1.0, 0.0]), 0.25)
  np.testing.assert_allclose(
    got[0, :2], 2 * full[0, :2] - weak[0, :2], rtol=1e-6
  )
  assert got[0, 2] == -np.inf  # 0.1 < 0.25 * 0.6
  np.testing.assert_allclose(got[1, :2], full[1, :2])


def test_chosen_logps_are_those_of_the_raw_softmax():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(4, 50)).astype(np.float32)
  logits[3] = -np.inf
  tokens = rng.integers(0, 50, 4).astype(np.int32)
  got = sampling.chosen_logps(jnp.asarray(logits), jnp.asarray(tokens))
  p = np.exp(np.float64(logits[:3]))
  want = np.log(p[np.arange(3), tokens[:3]] / p.sum(-1))
  np.testing.assert_allclose(got, [*want, 0], atol=1e-6)


@pytest.mark.parametrize(
  "settings, field",
  [
    (Sampling(-1.0, 5, 0.9), "temperature"),
    (Sampling(float("nan"), 5, 0.9), "temperature"),
    (Sampling(1.0, 0, 0.9), "top_k"),
    (Sampling(1.0, 5, 0.0), "top_p"),
    (Sampling(1.0, 5, 1.5), "top_p"),
  ],
)
def test_bad_settings_are_named(settings, field):
  with pytest.raises(ValueError, match=f"sampling.{field}="):
    sampling.check(settings)


def test_a_token_at_exactly_top_p_stays():
  even = np.zeros((1, 2), np.float32)
  got = probabilities(even, Sampling(1.0, 32, 0.5), 0)
  np.testing.assert_allclose(got, [[0.5, 0.5]])
