"""Updates with adapters on decoder, projector and tower: devices, caches."""

import dataclasses

import jax
import numpy as np
import pytest

from configs import vdc
from synpo_jax.models import captioner, sharding
from synpo_jax.models.config import PARTS, LoraConfig
from synpo_jax.training import train_steps, update
from synpo_jax.weights import loading
from tests.support.cached_data import features, make_setting, read

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
  """Clips and a captioner whose tower's last layer of two has an adapter."""
  made = make_setting(tmp_path_factory.mktemp("wide"))
  sizes = made.model.config
  sizes = dataclasses.replace(
    sizes, tower=dataclasses.replace(sizes.tower, tap=2)
  )
  made.model = captioner.make(sizes, LoraConfig(4, 4.0, 0.0, PARTS, 1))
  assert made.model.split == 1
  made.c.lora.update(dropout=0.0, where=PARTS, tower_layers=1)
  made.c.loss = dict(name="orpo", coefficients=vdc.LOSSES["orpo"])
  variables = loading.load_variables(made.model, "", mesh_of(1, 1), 0)
  rng = np.random.default_rng(0)
  lora = jax.tree.map(
    lambda x: np.float32(x + 0.2 * rng.standard_normal(x.shape)),
    variables["lora"],
  )  # adapters that do something
  made.variables = jax.tree.map(np.asarray, variables | {"lora": lora})
  made.tower = variables["params"]["tower"]
  return made


def mesh_of(data, model):
  devices = jax.devices()[: data * model]
  return sharding.make_mesh(data=data, fsdp=1, model=model, devices=devices)


def learned(setting, batches, mesh):
  """Loss and norm of the gradient of each update, and what they leave."""
  places = sharding.tree_shardings(setting.variables, mesh)
  variables = jax.device_put(setting.variables, places)
  trained, frozen = update.split(variables, "lora/.*")
  given = setting.c, setting.model, trained, mesh
  steps = train_steps.make_steps(*given, updates=len(batches))
  state, rows = steps.init(trained), []
  for index in range(len(batches)):
    batch = sharding.put_batch(batches[index], mesh)
    state, metrics = steps.train(state, frozen, batch, jax.random.key(0))
    rows.append([float(metrics[name]) for name in ("loss", "grad_norm")])
  return np.array(rows), jax.tree.map(np.asarray, state.trained["lora"])


@pytest.fixture(scope="module")
def alone(setting):
  """Frames as they are, on one device."""
  data = read(setting, setting.folder / "cache")
  assert data.batches[0].frames is not None
  return data, learned(setting, data.batches, mesh_of(1, 1))


def test_every_part_learns(setting, alone):
  _, (rows, lora) = alone
  assert np.ptp(rows[:, 0]) > 0.05
  for part in PARTS:
    before, after = (
      np.concatenate([x.ravel() for x in jax.tree.leaves(tree[part])])
      for tree in (setting.variables["lora"], lora)
    )
    assert np.abs(after - before).max() > 1e-3


def test_four_devices_learn_as_one(setting, alone):
  """Rows over two of them, and every layer over the other two."""
  data, (rows, lora) = alone
  found, other = learned(setting, data.batches, mesh_of(2, 2))
  np.testing.assert_allclose(found, rows, rtol=2e-4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), other, lora
  )


def test_what_enters_the_first_adapter_is_cached_and_learns_the_same(
  setting, alone
):
  """But for its rounding to bfloat16, which is 8 bits."""
  data, (rows, _) = alone
  cached = features(setting, setting.folder / "cache", verify=2)(data)
  batch = cached.batches[0]
  assert batch.frames is None
  assert batch.features.shape[-1] == setting.model.config.tower.width
  found, _ = learned(setting, cached.batches, mesh_of(1, 1))
  np.testing.assert_allclose(found[:, 0], rows[:, 0], rtol=2e-3)
  np.testing.assert_allclose(found[:, 1], rows[:, 1], rtol=2e-2)
