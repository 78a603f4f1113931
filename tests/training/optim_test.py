"""The learning-rate schedule against the official release's."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from synpo_jax.training import optim
from tests.support.paths import GOLDEN

FILE = GOLDEN / "schedule.npz"
SAME = dict(lr_projector=None, lr_tower=None)


def test_factor_equals_the_release_at_every_update():
  golden = np.load(FILE)
  for case, warmup in enumerate(golden["warmup_steps"]):
    factors = golden["factor"][case]
    updates = np.arange(len(factors))[~np.isnan(factors)]
    total = int(golden["training_steps"][case])
    if total == 0:  # the release counts too few updates; ours counts >= 1
      continue
    ours = [optim.lr_factor(u, int(warmup), total) for u in updates]
    np.testing.assert_allclose(
      np.clip(ours, 0, None), factors[updates], atol=1e-6
    )


def adamw_numpy(weight, grads, rates, *, decay, b1, b2, eps):
  """AdamW of Loshchilov and Hutter, one scalar at a time, in float64."""
  m = v = 0.0
  for t, (grad, rate) in enumerate(zip(grads, rates, strict=True), start=1):
    m = b1 * m + (1 - b1) * grad
    v = b2 * v + (1 - b2) * grad**2
    step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    weight = weight - rate * (step + decay * weight)
  return weight


def test_adamw_follows_the_rate_and_the_decay():
  settings = dict(b1=0.8, b2=0.95, eps=1e-3)  # none is optax's own
  run = SAME | dict(lr=0.1, warmup_frac=0.25, clip_norm=None, updates=8)
  tx, rate = optim.make(weight_decay=0.01, **run, **settings)
  grads = np.random.default_rng(0).normal(size=8)
  weight = jnp.float32(1.5)
  state = tx.init(weight)
  for grad in grads:
    update, state = tx.update(jnp.float32(grad), state, weight)
    weight = optax.apply_updates(weight, update)
  rates = [float(rate(u)) for u in range(8)]
  expected = adamw_numpy(1.5, grads, rates, decay=0.01, **settings)
  np.testing.assert_allclose(weight, expected, rtol=1e-5)


def test_a_run_without_updates_is_refused():
  with pytest.raises(ValueError, match="at least one update"):
    optim.make(
      **SAME,
      lr=1.0,
      warmup_frac=0.1,
      weight_decay=0.0,
      b1=0.9,
      b2=0.999,
      eps=1e-8,
      clip_norm=None,
      updates=0,
    )


PLAIN = SAME | dict(lr=0.1, weight_decay=0.0, b1=0.9, b2=0.999, eps=1e-8)


def test_a_part_of_an_update_is_no_warm_up():
  _, rate = optim.make(**PLAIN, warmup_frac=0.1, clip_norm=None, updates=19)
  assert [float(rate(n)) for n in (0, 1)] == [0.0, pytest.approx(0.1)]


def test_parts_learn_at_rates_of_their_own():
  """As if each had an optimiser of its own; others have the run's."""
  own = dict(decoder=0.1, projector=0.3, tower=0.02)
  run = dict(warmup_frac=0.5, clip_norm=None, updates=6)
  settings = dict(weight_decay=0.1, b1=0.8, b2=0.95, eps=1e-3)
  tx, rate = optim.make(
    lr=0.1, lr_projector=0.3, lr_tower=0.02, **run, **settings
  )
  weights = {"lora": dict.fromkeys(own, jnp.float32(1.5))}
  state = tx.init(weights)
  grads = np.random.default_rng(1).normal(size=6)
  for grad in grads:
    grad = {"lora": dict.fromkeys(own, jnp.float32(grad))}
    updates, state = tx.update(grad, state, weights)
    weights = optax.apply_updates(weights, updates)
  assert rate(3) == pytest.approx(0.1)
  decay = settings.pop("weight_decay")
  for part, peak in own.items():
    rates = [peak * float(optim.lr_factor(n, 3, 6)) for n in range(6)]
    want = adamw_numpy(1.5, grads, rates, decay=decay, **settings)
    np.testing.assert_allclose(weights["lora"][part], want, rtol=1e-5)


def test_a_rate_for_what_does_not_learn_is_refused():
  given = dict(lr_projector=None, lr_tower=1e-4)
  optim.check_parts(given, {"lora": {"tower": {}}})
  with pytest.raises(
    ValueError, match="lr_tower=0.0001, but nothing learns in"
  ):
    optim.check_parts(given, {"lora": {"decoder": {}}, "params": {}})


def test_long_gradients_are_shortened_together():
  tx, rate = optim.make(**PLAIN, warmup_frac=0.0, clip_norm=1.0, updates=9)
  weights = {"a": jnp.float32(1.5), "b": jnp.float32(-0.5)}
  grads = [(0.3, 0.4), (30.0, 40.0), (0.0, 2.0)]
  short = [(0.3, 0.4), (0.6, 0.8), (0.0, 1.0)]
  state, now = tx.init(weights), weights
  for a, b in grads:
    grad = {"a": jnp.float32(a), "b": jnp.float32(b)}
    update, state = tx.update(grad, state, now)
    now = optax.apply_updates(now, update)
  rates = [float(rate(n)) for n in range(3)]
  for place, name in enumerate("ab"):
    want = adamw_numpy(
      float(weights[name]),
      [pair[place] for pair in short],
      rates,
      **dict(decay=0.0, b1=0.9, b2=0.999, eps=1e-8),
    )
    np.testing.assert_allclose(now[name], want, rtol=1e-5)
