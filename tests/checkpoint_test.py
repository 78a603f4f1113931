"""A workdir belongs to one config; a state may move to another mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from synpo_jax import checkpoint, sharding


def test_a_workdir_of_another_config_is_refused_by_key(tmp_path):
  config = {"seed": 0, "optim": {"lr": 1e-3}, "every": {"log": 1}}
  checkpoint.claim_workdir(tmp_path / "run", config, free=("every",))
  checkpoint.claim_workdir(tmp_path / "run", config, free=("every",))
  freely = {**config, "every": {"log": 7}}
  checkpoint.claim_workdir(tmp_path / "run", freely, free=("every",))
  other = {**config, "optim": {"lr": 2e-3}}
  with pytest.raises(ValueError, match=r"optim\.lr \(0\.001 there, 0\.002 now"):
    checkpoint.claim_workdir(tmp_path / "run", other, free=("every",))


def test_a_state_saved_on_one_mesh_is_restored_on_another(tmp_path):
  values = jnp.arange(64, dtype=jnp.float32).reshape(8, 8)
  saved_on = sharding.make_mesh(data=1, fsdp=8, model=1)
  restored_on = sharding.make_mesh(data=2, fsdp=2, model=2)
  state = {"w": jax.device_put(values, NamedSharding(saved_on, P("fsdp")))}
  with checkpoint.open_manager(tmp_path, keep=1) as manager:
    checkpoint.save(manager, 3, state, {"next_index": 3})
    manager.wait_until_finished()
    target = {"w": NamedSharding(restored_on, P("model", "fsdp"))}
    fresh = jax.device_put(state, target)
    restored, data = checkpoint.restore(manager, checkpoint.abstract(fresh))
  assert data == {"next_index": 3}
  assert restored["w"].sharding == target["w"]
  np.testing.assert_array_equal(restored["w"], values)
