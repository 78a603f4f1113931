"""WPO: pairs weighed by how far the policy would have written them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vdc
from synpo_jax import losses
from synpo_jax.data.batch import Batch
from synpo_jax.losses import modifiers
from synpo_jax.training import gradients, pair_logps, update
from tests.support import losses_oracle as oracle
from tests.support import text_update
from tests.support.loss_rows import B, R, batch, close, scattered

WEIGHED = "dpo ipo bco kto sppo rpo synpo simpo orpo".split()


def drawn(mask, seed=1):
  """log sum_v p_v^2 of every token, NaN where there is none."""
  rng = np.random.default_rng(seed)
  return np.where(mask, -np.exp(rng.uniform(-3, 1, mask.shape)), np.nan)


def by_hand(rows, collisions, mask, most):
  """The weight of each pair, in float64."""
  found = []
  for (w, z, *_), own, there in zip(rows, collisions, mask, strict=True):
    near = np.mean(w - own[0][there[0]]) + np.mean(z - own[1][there[1]])
    found.append(min(most, np.exp(near)))
  return np.array(found)


def weighed(loss, logps, mask, refs, collisions):
  """Losses and the gradient of their sum, weights taken from the log-probs."""
  weight = jnp.ones(len(logps))

  def total(logps):
    near = modifiers.closeness(logps, collisions, mask)
    loss_B = loss(logps, mask, refs, weight, None, near)
    return jnp.sum(loss_B), loss_B

  (_, loss_B), grad = jax.value_and_grad(total, has_aux=True)(logps)
  return np.asarray(loss_B), np.asarray(grad)


@pytest.mark.parametrize("name", WEIGHED)
def test_value_and_gradient_match_float64(name):
  """The weights are constants: each row's own gradient, times its weight."""
  rows, logps, mask, refs = batch(2, low=0.05, high=3.0)
  held = np.asarray(mask)
  collisions = drawn(held)
  values, grads = oracle.expected(name, rows, R)
  weights = by_hand(rows, collisions, held, 0.4)
  assert 0 < (weights == 0.4).sum() < B
  loss = losses.make(name, vdc.LOSSES[name], wpo=0.4)
  padded = jnp.where(mask, logps, jnp.nan)
  value, grad = weighed(loss, padded, mask, refs, jnp.float32(collisions))
  close(value, weights * values, 2e-6)
  wanted = scattered(weights[:, None, None] * grads, held)
  close(grad, wanted, 3e-5)


def test_every_loss_of_pairs_can_be_weighed():
  """TRL refuses aot too; sft alone reads no pair."""
  for name in {*oracle.ORACLE} - {"aot", "sft"}:
    assert losses.make(name, vdc.LOSSES[name], wpo=1.0).wpo == 1.0


# The formula of TRL f2cd577, which has no bound, by hand; then the release's.
@pytest.mark.parametrize(
  "lower, most, value",
  [(0.0, 1e9, 0.3107059), (1.0, 1e9, 2.2958233), (1.0, 1.0, 0.7391593)],
)
def test_trls_numbers(lower, most, value):
  none = jnp.nan
  logps = jnp.array([[[-0.2, -1.5, -0.7, -2.0], [-0.9, -1.1, -2.5, none]]])
  both = [[-0.5, -1.0, -0.6, -1.5], [-0.4, -1.2, -0.9, none]]
  collisions = jnp.array([both]) - lower
  given = logps, jnp.isfinite(logps), jnp.array([[-4.0, -5.0]]), collisions
  loss, _ = weighed(losses.make("dpo", dict(beta=0.1), wpo=most), *given)
  np.testing.assert_allclose(loss, [value], rtol=1e-6)


def test_a_mixture_is_weighed_as_a_whole():
  """As TRL does: the chosen caption's NLL counts as far as the pair does."""
  _, logps, mask, refs = batch(4, low=0.05, high=3.0)
  collisions = jnp.float32(drawn(np.asarray(mask)))
  plain = losses.make("mpo", vdc.MIXTURES["mpo"])
  loss = losses.make("mpo", vdc.MIXTURES["mpo"], wpo=1.0)
  found, _ = weighed(loss, logps, mask, refs, collisions)
  near = modifiers.closeness(logps, collisions, mask)
  wanted = plain(logps, mask, refs, jnp.ones(B))
  close(found, modifiers.pair_weights(near, 1.0) * wanted, 1e-6)
  assert str(loss).endswith("1 sft, weighed by WPO, at most 1")


PL = dict(weight=1, **vdc.LOSSES["plackett_luce"])


@pytest.mark.parametrize(
  "name, coefficients, own, said",
  [
    ("aot", vdc.LOSSES["aot"], {}, "aot sorts the margins of all pairs"),
    ("sft", {}, {}, "sft reads no rejected caption"),
    ("tpo", vdc.LOSSES["tpo"], {}, "tpo reads a reference caption"),
    ("gdpo", vdc.MIXTURES["gdpo"], {}, "gold_nll reads a reference caption"),
    ("mine", dict(plackett_luce=PL), {}, "plackett_luce reads a whole list"),
    ("dpo", dict(beta=1), dict(all_pairs=1.0), "loss.all_pairs takes lists"),
    ("dpo", dict(beta=1), dict(wpo=0), "loss.wpo=0: a number above 0, or None"),
    ("dpo", dict(beta=1), dict(wpo=True), "loss.wpo=True: a number above 0"),
    ("dpo", dict(beta=1), dict(wpo=np.inf), "loss.wpo=inf: a number above 0"),
  ],
)
def test_what_cannot_be_weighed_is_refused(name, coefficients, own, said):
  with pytest.raises(ValueError, match=said) as error:
    losses.make(name, coefficients, **dict(wpo=1.0) | own)
  assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def setting():
  """A language model of 31 tokens, and eight rows of random captions."""
  rng = np.random.default_rng(0)
  mask = np.arange(4) < rng.integers(1, 5, (8, 2, 1))
  rows = Batch(
    prefix=rng.integers(0, 31, (8, 3), np.int32),
    prefix_mask=np.ones((8, 3), bool),
    response=rng.integers(0, 31, (8, 2, 4), np.int32),
    response_mask=mask,
    weight=np.float32(np.arange(8) < 7),
    row=np.arange(8, dtype=np.int32),
    ref_logps=rng.normal(-12, 4, (8, 2)).astype(np.float32),
  )
  return text_update.model(31), jax.tree.map(jnp.asarray, rows)


def test_collisions_are_those_of_the_distribution(setting):
  """Of every token, from the log-probs of all 31 tokens in its place."""
  (model, *trees), rows = setting
  variables = update.merge(*trees)
  scoring = pair_logps.Scoring("shared", 3, None, None)

  @jax.jit
  def logps_with(place, token):
    response = rows.response.at[..., place].set(token)
    other = rows._replace(response=response)
    return pair_logps.pair_logps(model, variables, other, scoring)[..., place]

  found = jax.jit(
    lambda: pair_logps.pair_scores(
      model, variables, rows, scoring, collisions=True
    )
  )()
  tokens = jnp.arange(31, dtype=jnp.int32)
  for place in range(4):
    every = [logps_with(place, token) for token in tokens]
    p = np.exp(np.float64(every))
    np.testing.assert_allclose(p.sum(0), 1.0, rtol=1e-5)
    wanted = np.log((p**2).sum(0))
    np.testing.assert_allclose(found.collisions[..., place], wanted, rtol=1e-4)


def test_every_cut_of_an_update_learns_the_same(setting):
  """The closeness of one pass serves the other; fillers weigh nothing."""
  state, rows = setting
  loss = dict(name="mpo", coefficients=vdc.MIXTURES["mpo"])
  goal = text_update.objective(state[0], "shared", **loss, wpo=1.0)
  step = jax.jit(lambda *args: gradients.value_and_grad(goal, *args, None))
  found = []
  for shape in ((1, 8), (4, 2)):
    cut = jax.tree.map(lambda x, s=shape: x.reshape(*s, *x.shape[1:]), rows)
    found.append(step(*state[1:], cut))
  (sums, whole), (cut_sums, cut) = found
  scale = np.abs(text_update.flat(whole)).max()
  np.testing.assert_allclose(
    text_update.flat(cut), text_update.flat(whole), atol=1e-5 * scale
  )
  for key, value in sums.items():
    np.testing.assert_allclose(cut_sums[key], value, rtol=1e-5)
  logps, refs, near = jax.jit(goal.score)(*state[1:], rows, None)
  real = slice(7)
  weights = np.minimum(1.0, np.exp(np.float64(near)[real].sum(1)))
  assert weights.min() < 0.9
  plain = losses.make(**loss)
  values = plain(logps, rows.response_mask, refs, rows.weight)[real]
  np.testing.assert_allclose(sums["loss"], (weights * values).sum(), rtol=1e-5)
  np.testing.assert_allclose(sums["wpo_weight"], weights.sum(), rtol=1e-5)


def test_what_nobody_asks_for_is_not_computed(setting):
  (model, *trees), rows = setting
  sums = []
  for wpo in (None, 1.0):
    goal = text_update.objective(
      model, "shared", name="synpo", coefficients=vdc.LOSSES["synpo"], wpo=wpo
    )
    program = str(jax.make_jaxpr(goal.score)(*trees, rows, None))
    sums.append(program.count(",31] = exp"))
  assert sums == [1, 2]
