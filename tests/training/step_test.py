"""What an update's dropout is drawn from, and what its sums count."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from synpo_jax.data.batch import Batch
from synpo_jax.models import initial, sharding
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import LoraConfig
from synpo_jax.training import gradients, job, train_steps, update
from synpo_jax.training.pair_logps import Scoring
from synpo_jax.weights.config_reading import captioner_config
from tests.support import run_config

SYNPO = dict(name="synpo", coefficients=dict(alpha=30.0, beta=0.2))


def batch(micro_batches=1):
  """Rows of text, the same in every micro-batch: [A, 1, ...]."""
  shape = micro_batches, 1
  return Batch(
    prefix=np.full((*shape, 3), 4, np.int32),
    prefix_mask=np.ones((*shape, 3), bool),
    response=np.tile(np.int32([[5, 6], [7, 8]]), (*shape, 1, 1)),
    response_mask=np.ones((*shape, 2, 2), bool),
    weight=np.ones(shape, np.float32),
    row=np.zeros(shape, np.int32),
  )


def drawn(dropout, micro_batches=1, coupled=False):
  """Gradients of two updates whose loss is w times what its keys draw."""

  def score(trained, frozen, rows, key):
    noise = 1.0 if key is None else jax.random.uniform(key)
    return trained["w"] * noise * jnp.ones((1, 2, 1)) / 2, None

  def judge(logps, ref_logps, mask, weight, scores):
    pairs = jnp.sum(weight)
    return {"pairs": pairs, "tokens": 2 * pairs, "loss": jnp.sum(logps)}

  objective = gradients.Objective(score, judge, coupled)
  step = update.make_train_step(objective, optax.sgd(1.0), dropout=dropout)
  state = update.init_state({"w": jnp.float32(0)}, optax.sgd(1.0))
  found, key = [0.0], jax.random.key(0)
  for _ in range(2):
    state, _ = step(state, {}, batch(micro_batches), key)
    found.append(-float(state.trained["w"]))
  return np.diff(found)


@pytest.mark.parametrize("coupled", [False, True])
def test_every_update_and_micro_batch_has_dropout_of_its_own(coupled):
  assert drawn(dropout=False, coupled=coupled).tolist() == [1.0, 1.0]
  folded, wanted = jax.random.fold_in, []
  for number in range(2):
    of_update = folded(jax.random.key(0), number)
    keys = [folded(of_update, micro) for micro in range(3)]
    wanted.append(np.mean([jax.random.uniform(key) for key in keys]))
  found = drawn(dropout=True, micro_batches=3, coupled=coupled)
  np.testing.assert_allclose(found, wanted, rtol=1e-5)
  assert len(set(wanted)) == 2


@pytest.fixture(scope="module")
def speaker():
  """A language model of one layer, its adapter switched on."""
  sizes = dict(vocab_size=11, hidden_size=8, intermediate_size=8)
  heads = dict(num_hidden_layers=1, num_attention_heads=1)
  config = captioner_config(dict(model_type="llama", **sizes, **heads))
  model = Captioner(config, LoraConfig(2, 4.0, 0.5))
  adapter = jax.tree.map(lambda leaf: leaf + 0.5, initial.adapter(model, 0))
  params = jax.tree.map(lambda leaf: 9 * leaf, initial.params(model, 0))
  return model, {"lora": adapter}, {"params": params}


def test_a_key_switches_the_adapters_dropout_on(speaker):
  model, trained, frozen = speaker
  scoring = Scoring("shared", 8, head_sharding=None, rows_sharding=None)
  score = jax.jit(update.make_objective(model, scoring, **SYNPO).score)
  keys = None, jax.random.key(0), jax.random.key(1), jax.random.key(0)
  logps = [score(trained, frozen, batch().micro(0), key)[0] for key in keys]
  none, one, other, again = [float(jnp.sum(values)) for values in logps]
  assert len({none, one, other}) == 3 and one == again


@pytest.mark.parametrize(
  "rank, dropout, on", [(4, 0.1, True), (4, 0.0, False), (0, 0.1, False)]
)
def test_a_run_draws_dropout_where_its_adapter_has_some(
  tmp_path, monkeypatch, rank, dropout, on
):
  c = run_config.get_config(tmp_path)
  c.lora.update(rank=rank, dropout=dropout)
  told, make = [], update.make_train_step

  def spy(objective, tx, *, dropout):
    told.append(dropout)
    return make(objective, tx, dropout=dropout)

  monkeypatch.setattr(update, "make_train_step", spy)
  mesh = sharding.make_mesh(data=2, fsdp=2, model=2)
  train_steps.make_steps(c, job.make_model(c, mesh), {}, mesh, updates=10)
  assert told == [on]


def test_a_pair_is_ranked_right_only_where_the_chosen_one_is_likelier():
  logps = jnp.float32([[[-1], [-2]], [[-2], [-1]], [[-1], [-1]], [[-1], [-9]]])
  weight = jnp.float32([1, 1, 1, 0])
  mask = jnp.ones(logps.shape, bool)
  sums = update.pair_sums(logps, mask, jnp.float32([1, 2, 4, 8]), weight)
  assert sums["accuracy"] == 1 and sums["pairs"] == 3
  assert sums["loss"] == 7 and sums["tokens"] == 6
  assert sums["chosen_logp"] == sums["rejected_logp"] == -4
