"""The mesh and the placement rules."""

import jax
import numpy as np
import pytest

from synpo_jax.models import sharding


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
