"""Frozen linear layers of one byte a weight, and adapters that learn on them.

Oracles are float64 NumPy and the float model with the rounded weights.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from synpo_jax.data.batch import Batch
from synpo_jax.models import initial, int8, lora, sharding
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import LoraConfig
from synpo_jax.training import update
from synpo_jax.training.gradients import value_and_grad
from synpo_jax.training.pair_logps import Scoring
from synpo_jax.weights import folders, loading
from synpo_jax.weights.config_reading import captioner_config

TINY = dict(
  model_type="qwen2",  # has biases beside the kernels
  vocab_size=48,
  hidden_size=32,
  intermediate_size=64,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
)
LORA = LoraConfig(rank=4, alpha=8.0, dropout=0.0)
LOSS = dict(name="synpo", coefficients=dict(alpha=30.0, beta=0.2))


def flat(tree):
  return traverse_util.flatten_dict(tree, sep="/")


def dequantised(params):
  """Float64 NumPy, whole numbers times their channel's scale."""
  leaves = {k: np.float64(v) for k, v in flat(params).items()}
  for name in [k for k in leaves if k.endswith("/kernel_scale")]:
    leaves[name.removesuffix("_scale")] *= leaves.pop(name)[:, None]
  return leaves


def test_no_weight_is_off_by_more_than_half_a_step():
  rng = np.random.default_rng(0)
  spread = 10.0 ** rng.integers(-6, 3, size=(3, 1, 24))
  kernel = (rng.normal(size=(3, 400, 24)) * spread).astype(np.float32)
  kernel[1, :, 5] = 0.0
  q, scale = map(np.asarray, jax.jit(int8.quantise)(kernel))
  assert q.dtype == np.int8 and scale.shape == (3, 24)
  step = np.float64(scale)[:, None]
  error = np.abs(q * step - kernel) / step
  assert error.max() <= 0.5 + 1e-5  # float32 division: 127 * 2**-24
  assert error.max() > 0.49
  top = np.abs(q.astype(int)).max(axis=1)
  assert (top == np.where(kernel.any(axis=1), 127, 0)).all()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  """A saved random model, and what loading makes of it: float, int8."""
  config = captioner_config(TINY)
  drawn = initial.params(Captioner(config), 0)
  drawn = jax.tree.map(lambda x: 4 * x, drawn)
  folder = tmp_path_factory.mktemp("saved")
  folders.save(folder, config, drawn)
  assert captioner_config(folder) == config
  rounded_config = config.with_int8_base()
  return config, *(
    folders.load(folder, sizes, dtype=jnp.float32)
    for sizes in (config, rounded_config)
  )


@pytest.fixture(scope="module")
def adapter(models):
  """A LoRA tree whose b is not zero."""
  tree = initial.adapter(Captioner(models[0], LORA), 1)
  return jax.tree.map(
    lambda x: x + 0.02 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), tree
  )


def test_loading_rounds_the_decoders_linear_layers(models):
  _, params, rounded = models
  leaves = flat(rounded)
  whole = {k for k, v in leaves.items() if v.dtype == jnp.int8}
  assert len(whole) == 7 and all("/layers/" in name for name in whole)
  assert leaves["decoder/head/kernel"].dtype == jnp.float32
  back = dequantised(rounded)
  for name, value in flat(params).items():
    if name not in whole:
      np.testing.assert_array_equal(leaves[name], value)
      continue
    half = np.float64(leaves[f"{name}_scale"])[:, None] / 2
    assert (np.abs(back[name] - value) <= half * (1 + 1e-5)).all()


def test_random_start_is_the_float_one_rounded(models):
  config = models[0]
  model = Captioner(config.with_int8_base())
  back = dequantised(initial.params(model, 3))
  for name, value in flat(initial.params(Captioner(config), 3)).items():
    step = np.abs(value).max() / 127
    np.testing.assert_allclose(back[name], value, atol=0.51 * step)


def make_batch(rows):
  rng = np.random.default_rng(5)
  lengths = rng.integers(2, 7, size=(rows, 2, 1))
  starts = rng.integers(0, 3, size=(rows, 1))
  batch = Batch(
    prefix=rng.integers(0, 48, size=(rows, 8)).astype(np.int32),
    prefix_mask=np.arange(8) >= starts,
    response=rng.integers(0, 48, size=(rows, 2, 6)).astype(np.int32),
    response_mask=np.arange(6) < lengths,
    weight=np.ones(rows, np.float32),
    row=np.arange(rows, dtype=np.int32),
  )
  return jax.tree.map(lambda x: x[None], batch)


@functools.cache
def loss_and_gradients(config, places=None):
  """A jitted (lora, params, batch) -> (loss, gradients of lora)."""
  model = Captioner(config, LORA)
  scoring = Scoring("shared", 4, head_sharding=places, rows_sharding=None)
  objective = update.make_objective(model, scoring, **LOSS)

  @jax.jit
  def compute(tree, params, batch):
    state = {"lora": tree}, {"params": params}
    sums, grads = value_and_grad(objective, *state, batch, None)
    return sums["loss"], grads["lora"]

  return compute


def test_adapters_learn_as_on_the_rounded_float_model(models, adapter):
  config, params, rounded = models
  batch = make_batch(8)
  ours, gradients = loss_and_gradients(config.with_int8_base())(
    adapter, rounded, batch
  )
  plain = loss_and_gradients(config)
  back = {k: jnp.float32(v) for k, v in dequantised(rounded).items()}
  theirs, expected = plain(
    adapter, traverse_util.unflatten_dict(back, sep="/"), batch
  )
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)
  for path, value in flat(expected).items():
    largest = np.abs(value).max()
    assert largest > 1e-4
    np.testing.assert_allclose(
      flat(gradients)[path], value, atol=1e-5 * largest
    )
  exact, _ = plain(adapter, params, batch)
  # Of 8 pairs, -3.94 in all; 0.012 were measured.
  assert 0 < abs(float(ours - exact)) < 0.02


@pytest.mark.slow
def test_a_mesh_changes_nothing(models, adapter):
  config, _, rounded = models
  config = config.with_int8_base()
  batch = make_batch(8)
  want, gradients = loss_and_gradients(config)(adapter, rounded, batch)
  mesh = sharding.make_mesh(data=2, fsdp=2, model=2)
  tree = {"params": rounded, "lora": adapter}
  placed = jax.device_put(tree, sharding.tree_shardings(tree, mesh))
  rows = sharding.put_batch(batch, mesh)
  compute = loss_and_gradients(config, sharding.head_sharding(mesh))
  loss, sharded = compute(placed["lora"], placed["params"], rows)
  np.testing.assert_allclose(loss, want, rtol=1e-5)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5 * abs(y).max()),
    sharded,
    gradients,
  )


def test_what_an_int8_base_cannot_do(models, adapter, tmp_path):
  config, _, rounded = models
  with pytest.raises(ValueError, match="attn/q/kernel, which model.base=int8"):
    update.split({"params": rounded}, "params/.*")
  with pytest.raises(ValueError, match="int8 weights are not written"):
    folders.save(tmp_path, config.with_int8_base(), rounded)
  with pytest.raises(ValueError, match="not merged into int8 weights"):
    lora.merge(rounded["decoder"], adapter["decoder"], LORA)
  with pytest.raises(ValueError, match="model.base=int4: choose float or int8"):
    loading.make_model(
      checkpoint="",
      arch=TINY,
      kept_ratio=None,
      dtype="float32",
      base="int4",
      remat="none",
      attention="xla",
      adapter=dict(rank=0),
      mesh=None,
    )
