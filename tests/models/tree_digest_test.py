"""A name for weights: their content's, not their places'."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from synpo_jax.models.tree_digest import digest


def test_a_digest_tells_weights_and_not_places():
  devices = jax.devices()
  tree = {"w": jax.random.normal(jax.random.key(0), (8, 6)), "b": jnp.ones(8)}
  name = digest(tree)
  for shape, spec in itertools.product(((8, 1), (4, 2)), (P("x"), P("x", "y"))):
    mesh = jax.sharding.Mesh(np.array(devices).reshape(shape), ("x", "y"))
    places = {"w": NamedSharding(mesh, spec), "b": NamedSharding(mesh, P("x"))}
    assert digest(jax.device_put(tree, places)) == name
  w = tree["w"]
  for other in (
    w.at[3, 2].add(1e-6),
    w.at[0].set(w[1]).at[1].set(w[0]),
    w.T,
    w.reshape(6, 8),
    w.astype(jnp.bfloat16),
  ):
    assert digest(tree | {"w": other}) != name
  assert digest({"v": tree["w"], "b": tree["b"]}) != name


def test_names_that_caches_hold_stay_valid():
  tree = {"w": jnp.arange(12.0).reshape(3, 4), "b": jnp.ones(8, jnp.bfloat16)}
  assert digest(tree) == "c3352ee9bb2c2b736631fdabb945f0ff"
  on_the_host = jax.tree.map(np.asarray, tree)
  assert digest(on_the_host) == digest(tree)
