"""A run whose copies of the model split its moments goes on on any mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from synpo_jax.models import initial, sharding
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import LoraConfig
from synpo_jax.training import checkpoint, gradients, train_steps, update
from synpo_jax.weights.config_reading import captioner_config
from tests.support import small_text

TX = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1))
LORA = LoraConfig(rank=4, alpha=8.0, dropout=0.0)


def begun(data, fsdp=1, model=1):
  """(mesh, fresh state) with the adapter of a run on such a mesh."""
  devices = jax.devices()[: data * fsdp * model]
  sizes = dict(data=data, fsdp=fsdp, model=model)
  mesh = sharding.make_mesh(**sizes, devices=devices)
  config = captioner_config(small_text.SIZES)
  trained = {"lora": initial.adapter(Captioner(config, LORA), 1)}
  trained = jax.device_put(trained, sharding.tree_shardings(trained, mesh))
  places = train_steps.state_shardings(trained, TX, mesh)
  return mesh, train_steps.make_init(TX, places)(trained)


def goal(mesh):
  """A loss that pulls every weight towards a number of its own."""

  def score(trained, frozen, rows, key):
    def far(leaf):
      own = jnp.sin(jnp.arange(leaf.size, dtype=jnp.float32))
      return jnp.sum((leaf - own.reshape(leaf.shape)) ** 2)

    sizes = jnp.float32(rows.response[:, :, :1])
    return sizes * sum(map(far, jax.tree.leaves(trained))), None

  def judge(logps, ref_logps, mask, weight, scores):
    pairs = jnp.sum(weight)
    return {"pairs": pairs, "tokens": pairs, "loss": jnp.sum(logps)}

  return gradients.Objective(score, judge, False, mesh)


def learned(mesh, state):
  """The state after one more update, in its place."""
  places = jax.tree.map(lambda leaf: leaf.sharding, state)
  step = update.make_train_step(goal(mesh), TX, dropout=False)
  step = jax.jit(step, out_shardings=(places, sharding.replicated(mesh)))
  rows = sharding.put_batch(small_text.drawn(2, 4), mesh)
  return step(state, {}, rows, jax.random.key(0))[0]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """(workdir, state there, the same after one more) of four copies."""
  folder = tmp_path_factory.mktemp("run")
  mesh, state = begun(data=4)
  state = learned(mesh, state)
  with checkpoint.open_manager(folder, keep=1) as manager:
    checkpoint.save(manager, 1, state, {"next": 1}, {}, {})
  return folder, state, learned(mesh, state)


def moments(state):
  return [leaf for leaf in jax.tree.leaves(state.opt) if leaf.ndim]


def test_what_is_saved_are_whole_moments_of_split_ones(saved):
  _, state, _ = saved
  assert all(jnp.abs(leaf).max() > 0 for leaf in moments(state))
  for leaf in moments(state):
    assert 4 * leaf.addressable_shards[0].data.nbytes == leaf.nbytes


@pytest.mark.parametrize(
  "sizes",
  [dict(data=1), dict(data=1, fsdp=4), dict(data=2, model=2)],
  ids=str,
)
def test_a_run_goes_on_on_another_mesh(saved, sizes):
  folder, state, wanted = saved
  mesh, fresh = begun(**sizes)
  with checkpoint.open_manager(folder, keep=1) as manager:
    like = checkpoint.abstract(fresh)
    restored, position = checkpoint.restore(manager, like)
  assert position == {"next": 1}
  for one, its, other in zip(
    *map(jax.tree.leaves, (restored, fresh, state)), strict=True
  ):
    assert one.sharding == its.sharding
    np.testing.assert_array_equal(one, other)
  for one, other in zip(
    *map(jax.tree.leaves, (learned(mesh, restored), wanted)), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
