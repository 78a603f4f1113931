"""The mesh and the placement rules."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from synpo_jax.models import captioner, sharding
from synpo_jax.models.config import LoraConfig
from synpo_jax.weights.config_reading import captioner_config


def test_minus_one_takes_the_devices_left_over():
  mesh = sharding.make_mesh(data=-1, fsdp=2, model=2)
  assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "model": 2}


def test_a_mesh_that_does_not_fit_says_what_to_set():
  with pytest.raises(ValueError, match="needs 3 devices, 8 are at hand"):
    sharding.make_mesh(data=3, fsdp=1, model=1)


@pytest.mark.parametrize("data, fsdp", ((0, -1), (0, 1), (-2, -4), (1, -3)))
def test_a_size_that_is_no_number_of_devices_is_named(data, fsdp):
  with pytest.raises(ValueError, match=r"mesh\.(data|fsdp)=.*or -1 for those"):
    sharding.make_mesh(data=data, fsdp=fsdp, model=1)


def test_a_batch_of_no_pairs_is_named():
  mesh = sharding.make_mesh(data=8, fsdp=1, model=1)
  with pytest.raises(ValueError, match="data.batch_size=0: give a number"):
    sharding.check_batch(mesh, 0)


def test_a_leaf_without_a_rule_is_an_error():
  mesh = sharding.make_mesh(data=8, fsdp=1, model=1)
  leaf = jax.ShapeDtypeStruct((4, 4), np.float32)
  with pytest.raises(ValueError, match="no sharding rule covers params/new"):
    sharding.tree_shardings({"params": {"new": leaf}}, mesh)


def test_an_axis_that_does_not_divide_is_an_error():
  mesh = sharding.make_mesh(data=1, fsdp=1, model=8)
  tree = {
    "params": {
      "decoder": {"head": {"kernel": jax.ShapeDtypeStruct((4, 12), "float32")}}
    }
  }
  with pytest.raises(ValueError, match="12 does not divide over mesh axis"):
    sharding.tree_shardings(tree, mesh)


@pytest.fixture(scope="module")
def cube():
  return sharding.make_mesh(data=2, fsdp=2, model=2)


def test_a_batch_is_split_over_data_and_fsdp(cube):
  assert sharding.batch_sharding(cube).shard_shape((3, 8, 5)) == (3, 2, 5)
  assert sharding.rows_sharding(cube).shard_shape((8, 5)) == (2, 5)
  sharding.check_batch(cube, 8)
  said = "batch_size=6 does not divide over mesh data x fsdp = 4"
  with pytest.raises(ValueError, match=said):
    sharding.check_batch(cube, 6)


def test_devices_of_two_processes_share_no_row():
  """They would read other rows for the same place."""
  of = [SimpleNamespace(process_index=process) for process in (0, 0, 1, 1)]

  def check(rows, model):
    devices = np.array(of, object).reshape(rows, 1, model)
    shape = {"data": rows, "fsdp": 1, "model": model}
    sharding.check_batch(SimpleNamespace(devices=devices, shape=shape), 4)

  check(4, 1)
  check(2, 2)
  with pytest.raises(ValueError, match="mesh.model=4 spans processes, each of"):
    check(1, 4)


def test_tpus_gather_weights_whole_for_several_pairs_a_device():
  def told(platform, batch_size):
    devices = np.array([SimpleNamespace(platform=platform)] * 4, object)
    shape = {"data": 2, "fsdp": 2, "model": 1}
    mesh = SimpleNamespace(devices=devices, shape=shape)
    return sharding.compiler_options(mesh, batch_size)

  assert told("tpu", 8) == sharding.COMPILER["tpu"]
  assert told("tpu", 4) is told("cpu", 8) is told("gpu", 8) is None


# What one of 2 x 2 x 2 devices holds of a layer stack's arrays.
HELD = {
  "params/decoder/embed/embedding": (28, 8),
  "params/decoder/head/kernel": (8, 28),
  "params/decoder/layers/attn/q/kernel": (2, 8, 8),
  "params/decoder/layers/attn/q/bias": (2, 8),
  "params/decoder/layers/attn/o/kernel": (2, 8, 8),
  "params/decoder/layers/attn/o/bias": (2, 16),
  "params/decoder/layers/mlp/gate/kernel": (2, 8, 12),
  "params/decoder/layers/mlp/down/kernel": (2, 12, 8),
  "params/decoder/layers/attn_norm/scale": (2, 16),
  "params/decoder/norm/scale": (16,),
  "lora/decoder/layers/attn/q/a": (2, 8, 4),
  "lora/decoder/layers/attn/q/b": (2, 4, 4),
  "lora/decoder/layers/mlp/down/a": (2, 6, 4),
  "lora/decoder/layers/mlp/down/b": (2, 4, 8),
}


def test_what_one_device_holds(cube):
  sizes = dict(vocab_size=56, hidden_size=16, intermediate_size=24)
  heads = dict(num_hidden_layers=2, num_attention_heads=2)
  config = captioner_config(
    dict(model_type="llama", attention_bias=True, **sizes, **heads)
  )
  tree = captioner.shapes(captioner.Captioner(config, LoraConfig(4, 4.0, 0.0)))
  placed = sharding.tree_shardings(tree, cube)
  held = {
    sharding.path_name(path): place.shard_shape(leaf.shape)
    for (path, leaf), place in zip(
      jax.tree.leaves_with_path(tree), jax.tree.leaves(placed), strict=True
    )
  }
  assert held | HELD == held
