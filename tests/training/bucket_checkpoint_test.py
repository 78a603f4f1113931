"""Checkpoints go straight to a bucket and come back; halves do not count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synpo_jax.runtime import buckets, mirror, workdir
from synpo_jax.training import checkpoint, inputs
from synpo_jax.weights import adapters

CONFIG = {"model": {}, "lora": {"rank": 2, "alpha": 2.0, "dropout": 0.0}}


def state(step):
  learned = {"lora": {"decoder": {"a": jnp.arange(6.0) + step}}}
  return {"step": jnp.int32(step), "trained": learned}


def save(place, *steps):
  """Checkpoints as a run saves them, each holding what its step says."""
  with mirror.kept(place) as folder:
    workdir.claim_workdir(folder, CONFIG)
    inputs.claim(folder, {workdir.BASE_WEIGHTS: "x"})
    with checkpoint.open_manager(folder, keep=2) as manager:
      for step in steps:
        position = {"next": step}
        read = {workdir.BASE_WEIGHTS: "x"}
        checkpoint.save(manager, step, state(step), position, CONFIG, read)
    assert not (folder / "checkpoints").exists()


def test_a_run_in_a_bucket_is_saved_continued_and_read(google):
  place = f"{google}/saved"
  save(place, 1, 2, 3)
  assert workdir.is_run(place)
  assert str(workdir.newest(place)) == f"{place}/checkpoints/3"
  assert workdir.run_config(place) == CONFIG
  read = adapters.read_run(place)
  np.testing.assert_array_equal(read.lora["decoder"]["a"], np.arange(6.0) + 3)
  with (
    mirror.kept(place) as folder,
    checkpoint.open_manager(folder, keep=2) as manager,
  ):
    wanted = checkpoint.abstract(jax.device_put(state(0), jax.devices()[0]))
    found, position = checkpoint.restore(manager, wanted)
    assert sorted(manager.all_steps()) == [2, 3]
  assert int(found["step"]) == position["next"] == 3


def test_a_checkpoint_without_its_last_object_does_not_count(google):
  place = f"{google}/halves"
  save(place, 1, 2)
  (buckets.at(place) / "checkpoints" / "2" / "commit_success.txt").unlink()
  assert workdir.newest(place).name == "1"
  with (
    mirror.kept(place) as folder,
    checkpoint.open_manager(folder, keep=2) as manager,
  ):
    assert manager.latest_step() == 1
  save(place, 2)
  assert workdir.newest(place).name == "2"


def test_another_config_is_refused_by_its_place(google):
  place = f"{google}/other"
  save(place, 1)
  changed = CONFIG | {"lora": CONFIG["lora"] | {"rank": 3}}
  with pytest.raises(ValueError, match=f"^{place} holds .*lora.rank"):
    with mirror.kept(place) as folder:
      workdir.claim_workdir(folder, changed)


def test_a_store_that_checkpoints_cannot_go_to_is_refused():
  place = "s3://bucket/run"
  with pytest.raises(
    ValueError, match=f"^--workdir={place}: checkpoints go to"
  ):
    checkpoint.check_place(workdir.checkpoints(place))
