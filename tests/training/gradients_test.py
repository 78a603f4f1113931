"""Losses that compare pairs: the update is one batch, however it is cut."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vdc
from synpo_jax import losses
from synpo_jax.data.batch import Batch
from synpo_jax.models import initial
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import LoraConfig
from synpo_jax.training import gradients, update
from synpo_jax.training.pair_logps import Scoring
from synpo_jax.weights.config_reading import captioner_config
from tests.support.losses_oracle import expected

pytestmark = pytest.mark.slow

ARCH = dict(
  model_type="llama",
  vocab_size=31,
  hidden_size=16,
  intermediate_size=16,
  num_hidden_layers=1,
  num_attention_heads=2,
  num_key_value_heads=2,
)
PAIRS, REAL, LENGTH = 8, 7, 5  # the last pair is a filler
LAYOUTS = [(8, 1), (4, 2), (1, 8)]
DROPOUT = jax.random.key(3)


@pytest.fixture(scope="module")
def model():
  """A language model whose adapter does something, split in two trees."""
  made = Captioner(captioner_config(ARCH), LoraConfig(2, 2.0, 0.5))
  variables = {
    "params": jax.tree.map(lambda x: 4 * x, initial.params(made, 0)),
    "lora": jax.tree.map(lambda x: x + 0.3, initial.adapter(made, 1)),
  }
  return made, *update.split(variables, "lora/.*")


def make_batch(micro_batches, size):
  """The same eight pairs, so cut: [A, B, ...]."""
  rng = np.random.default_rng(0)
  lengths = rng.integers(1, LENGTH + 1, (PAIRS, 2, 1))
  batch = Batch(
    prefix=rng.integers(0, 31, (PAIRS, 3), np.int32),
    prefix_mask=np.ones((PAIRS, 3), bool),
    response=rng.integers(0, 31, (PAIRS, 2, LENGTH), np.int32),
    response_mask=np.arange(LENGTH) < lengths,
    weight=np.float32(np.arange(PAIRS) < REAL),
    row=np.arange(PAIRS, dtype=np.int32),
    ref_logps=rng.normal(-16, 4, (PAIRS, 2)).astype(np.float32),
  )
  return jax.tree.map(
    lambda x: x.reshape(micro_batches, size, *x.shape[1:]), batch
  )


def objective(made, name):
  scoring = Scoring("shared", 4, head_sharding=None, rows_sharding=None)
  coefficients = (vdc.LOSSES | vdc.MIXTURES)[name]
  return update.make_objective(
    made, scoring, name=name, coefficients=coefficients
  )


def learned(model, name, layout, key=None):
  """The sums of an update so cut, and its gradient as one vector."""
  made, *state = model
  step = functools.partial(gradients.value_and_grad, objective(made, name))
  sums, grads = jax.jit(step)(*state, make_batch(*layout), key)
  return sums, np.concatenate([x.ravel() for x in jax.tree.leaves(grads)])


@pytest.mark.parametrize("name", [*sorted(losses.COUPLED), "mpo"])
def test_every_cut_of_an_update_gives_the_same_gradient(model, name):
  sums, whole = learned(model, name, (1, 8))
  assert np.abs(whole).max() > 1e-3
  for layout in LAYOUTS[:2]:
    cut_sums, cut = learned(model, name, layout)
    np.testing.assert_allclose(cut, whole, atol=1e-5 * np.abs(whole).max())
    for key, value in sums.items():
      np.testing.assert_allclose(cut_sums[key], value, rtol=1e-5)


@pytest.mark.parametrize("name", [*sorted(losses.COUPLED), "mpo"])
def test_the_loss_is_that_of_all_pairs_of_the_update(model, name):
  """Against float64 NumPy over the real pairs; so where it is evaluated."""
  made, *state = model
  batch = make_batch(4, 2)
  score = jax.jit(functools.partial(objective(made, name).score, key=None))
  scored = [score(*state, batch.micro(i))[0] for i in range(4)]
  logps = np.float64(np.concatenate(scored))
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
  rows = [
    (*(x[m] for x, m in zip(logps[b], flat.response_mask[b], strict=True)), *r)
    for b, r in enumerate(np.float64(flat.ref_logps))
  ]
  values = 0.0
  for term in losses.make(name, (vdc.LOSSES | vdc.MIXTURES)[name]).terms:
    own, _ = expected(term.name, rows[:REAL], LENGTH, **term.coefficients)
    values += term.weight * own
  sums, _ = learned(model, name, (4, 2))
  np.testing.assert_allclose(sums["loss"], values.sum(), rtol=1e-5)
  assert sums["pairs"] == REAL
  evaluate = jax.jit(update.make_eval_step(objective(made, name)))
  np.testing.assert_allclose(
    evaluate(*state, batch)["loss"], sums["loss"], rtol=1e-6
  )


def test_both_passes_drop_the_same(model):
  """The gradient of a loss written down over all micro-batches at once."""
  made, *state = model
  parts = objective(made, "kto")

  def whole(trained, frozen, batch):
    scored = []
    for i in range(4):
      key = jax.random.fold_in(DROPOUT, i)
      scored.append(parts.score(trained, frozen, batch.micro(i), key))
    logps, refs = (jnp.concatenate(x) for x in zip(*scored, strict=True))
    mask = batch.response_mask.reshape(PAIRS, 2, LENGTH)
    return parts.judge(logps, refs, mask, batch.weight.ravel())["loss"]

  loss, wanted = jax.jit(jax.value_and_grad(whole))(*state, make_batch(4, 2))
  wanted = np.concatenate([x.ravel() for x in jax.tree.leaves(wanted)])
  sums, ours = learned(model, "kto", (4, 2), DROPOUT)
  np.testing.assert_allclose(sums["loss"], loss, rtol=1e-5)
  np.testing.assert_allclose(ours, wanted, atol=1e-5 * np.abs(wanted).max())
  without, _ = learned(model, "kto", (4, 2))
  assert abs(float(without["loss"] - loss)) > 1e-4  # something was dropped


def test_a_loss_of_single_pairs_takes_one_pass(model):
  assert not objective(model[0], "dpo").coupled
  _, whole = learned(model, "dpo", (1, 8))
  _, cut = learned(model, "dpo", (8, 1))
  np.testing.assert_allclose(cut, whole, atol=1e-5 * np.abs(whole).max())
