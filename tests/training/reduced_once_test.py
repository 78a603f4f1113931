"""Parts of `data` add their gradients up once an update, and hold moments."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import vdc
from synpo_jax.models import initial, sharding
from synpo_jax.models.attention import Backend
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import LoraConfig
from synpo_jax.planning import costs
from synpo_jax.training import gradients, pair_logps, train_steps, update
from synpo_jax.weights.config_reading import captioner_config
from tests.support import small_text

MICRO, PAIRS = 3, 8
STEP = dict(layout_name="shared", head_chunk=4)


def speaker(mesh):
  """A language model whose adapter does something, on a mesh."""
  kernel = Backend("cudnn", mesh, emulated=True)
  lora = LoraConfig(rank=4, alpha=8.0, dropout=0.5)
  model = Captioner(captioner_config(small_text.SIZES), lora, attention=kernel)
  variables = {
    "params": jax.tree.map(lambda x: 4 * x, initial.params(model, 0)),
    "lora": jax.tree.map(lambda x: x + 0.3, initial.adapter(model, 1)),
  }
  places = sharding.tree_shardings(variables, mesh)
  return model, *update.split(jax.device_put(variables, places), "lora/.*")


def batch(mesh):
  """Some rows weigh nothing; split as a run splits them."""
  shape = MICRO, PAIRS
  made = small_text.drawn(
    *shape,
    weight=np.float32(np.arange(MICRO * PAIRS).reshape(shape) % 5 > 0),
    ref_logps=np.random.default_rng(1)
    .normal(-16, 4, (*shape, 2))
    .astype(np.float32),
  )
  return sharding.put_batch(made, mesh)


def goal(model, name, mesh):
  scoring = pair_logps.make_scoring(**STEP, mesh=mesh)
  told = dict(name=name, coefficients=vdc.LOSSES[name])
  return update.make_objective(model, scoring, **told)


@pytest.mark.parametrize("name", ["synpo", "kto"])  # by one pass, by two
def test_sums_and_gradients_are_those_of_one_sum_a_micro_batch(name):
  """With dropout, whose masks are those of the whole micro-batch's rows."""
  mesh = sharding.make_mesh(data=2, fsdp=2, model=1, devices=jax.devices()[:4])
  model, *state = speaker(mesh)
  once = goal(model, name, mesh)
  assert once.mesh is mesh
  found = [
    jax.jit(lambda *args, how=how: gradients.value_and_grad(how, *args))(
      *state, batch(mesh), jax.random.key(3)
    )
    for how in (once, once._replace(mesh=None))
  ]
  (sums, ours), (their_sums, theirs) = found
  assert max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(theirs)) > 0.01
  for key, value in their_sums.items():
    np.testing.assert_allclose(sums[key], value, rtol=1e-5)
  for one, other in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5 * jnp.abs(other).max())


@pytest.fixture(scope="module")
def compiled():
  """A run's own step on four copies of the model: (text, adapter, moments)."""
  mesh = sharding.make_mesh(data=4, fsdp=1, model=1, devices=jax.devices()[:4])
  model, trained, frozen = speaker(mesh)
  tx = optax.adam(1e-3)
  step = update.make_train_step(goal(model, "synpo", mesh), tx, dropout=True)
  places = train_steps.state_shardings(trained, tx, mesh)
  state = train_steps.make_init(tx, places)(trained)
  jitted = jax.jit(step, out_shardings=(places, sharding.replicated(mesh)))
  args = state, frozen, batch(mesh), jax.random.key(0)
  return jitted.lower(*args).compile().as_text(), trained, state.opt


def test_an_update_sums_the_gradient_once(compiled):
  text, trained, _ = compiled
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(trained))
  received = costs.count(text).received
  scattered = received.pop("reduce-scatter")
  assert scattered == size * 3 / 4  # a device keeps a quarter, of four
  assert received.pop("all-gather") == size * 3 / 4  # the adapter, updated
  assert sum(received.values()) < 1000  # sums over pairs, and the norm


def test_a_device_holds_its_part_of_the_moments(compiled):
  _, trained, opt = compiled
  moments = [leaf for leaf in jax.tree.leaves(opt) if leaf.ndim]
  assert len(moments) == 2 * len(jax.tree.leaves(trained))
  for leaf in moments:
    assert 4 * leaf.addressable_shards[0].data.nbytes == leaf.nbytes


def test_so_are_the_gradients_of_both_rewards():
  """And their norms are those of one sum a micro-batch."""
  mesh = sharding.make_mesh(data=4, fsdp=1, model=1, devices=jax.devices()[:4])
  model, trained, frozen = speaker(mesh)
  once = pair_logps.make_scoring(**STEP, mesh=mesh)
  args, found = (trained, frozen, batch(mesh)), []
  for scoring in (once, once._replace(rows_sharding=None)):
    norms = update.make_reward_norms(model, scoring, summed=True)
    compiled = jax.jit(norms).lower(*args).compile()
    found.append(compiled(*args))
    received = costs.count(compiled.as_text()).received
    if scoring is once:
      size = sum(leaf.nbytes for leaf in jax.tree.leaves(trained))
      assert received.pop("reduce-scatter") == 2 * size * 3 / 4
      assert sum(received.values()) < 1000  # the norms
  ours, theirs = found
  assert len(ours) == 2 and min(ours.values()) > 0
  for name, value in theirs.items():
    np.testing.assert_allclose(ours[name], value, rtol=1e-5)
