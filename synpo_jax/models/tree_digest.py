"""A name for weights by their content, wherever and however they lie."""

import functools
import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, UInt32

# Of MurmurHash3's 32-bit finaliser, and two starts for two sums.
FIRST, SECOND = 0x85EBCA6B, 0xC2B2AE35
STARTS = (0x9E3779B9, 0x7F4A7C15)


def digest(tree) -> str:
  """32 hex digits that name all paths, shapes, dtypes and bits of a tree.

  Every leaf is reduced where it lies, to two 32-bit sums of its mixed words.
  Integer sums have no order, so mesh, platform and number of processes do not
  change the name. It tells weights apart; it does not resist an attacker.
  """
  whole = hashlib.sha256()
  for name, what in leaves(tree).items():
    whole.update(f"{name} {what}\n".encode())
  return whole.hexdigest()[:32]


def leaves(tree) -> dict[str, str]:
  """Path to shape, dtype and the two sums of every array of a tree.

  A change of one element always changes a sum. Arrays of the host are summed
  on its own device.
  """
  found, sums = {}, {}
  for path, leaf in jax.tree.leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if isinstance(leaf, np.ndarray):
      leaf = jax.device_put(leaf, jax.local_devices(backend="cpu")[0])
    sums[name] = _sums(leaf, _everywhere(leaf))
    found[name] = f"{leaf.shape} {leaf.dtype}"
  sums = jax.device_get(sums)  # all at once: the device never waits
  return {name: f"{what} {sums[name].tolist()}" for name, what in found.items()}


def _everywhere(leaf):
  """A sharding under which each process can read a result, or None."""
  if isinstance(leaf.sharding, NamedSharding):
    return NamedSharding(leaf.sharding.mesh, PartitionSpec())
  return None


@functools.partial(jax.jit, static_argnums=1)
def _sums(leaf, place) -> UInt32[Array, "2"]:
  """Sums over mix(word ^ mix(index ^ start)), modulo 2**32."""
  width = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
  words = jax.lax.bitcast_convert_type(leaf, width).astype(jnp.uint32)
  index = jnp.zeros(leaf.shape, jnp.uint32)
  for axis in range(leaf.ndim):
    stride = math.prod(leaf.shape[axis + 1 :]) % 2**32
    steps = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
    index += steps * jnp.uint32(stride)
  sums = jnp.stack(
    [
      jnp.sum(_mix(words ^ _mix(index ^ jnp.uint32(start))), dtype=jnp.uint32)
      for start in STARTS
    ]
  )
  if place is None:
    return sums
  return jax.lax.with_sharding_constraint(sums, place)


def _mix(x):
  """A bijection of 32-bit words in which every bit moves every other."""
  x = (x ^ (x >> 16)) * jnp.uint32(FIRST)
  x = (x ^ (x >> 13)) * jnp.uint32(SECOND)
  return x ^ (x >> 16)
