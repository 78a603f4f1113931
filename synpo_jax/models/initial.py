"""Weights and adapters as they start: drawn leaf by leaf in their places.

A leaf depends on the seed and on its own path, not on the mesh or on the
leaves around it.
"""

import zlib
from functools import partial

import jax
import jax.numpy as jnp
from flax import traverse_util

from synpo_jax.models import int8
from synpo_jax.models.captioner import Captioner, shapes
from synpo_jax.models.lora import uniform_a


def params(model: Captioner, seed: int, *, dtype=jnp.float32, shardings=None):
  """Random `params`, drawn leaf by leaf straight into their places.

  Kernels, tables and tokens are normal with deviation 0.02; norms start as
  the identity, biases at zero, layer scales at one.
  """
  offset = model.config.decoder.unit_offset_norm
  wanted = traverse_util.flatten_dict(shapes(model)["params"], sep="/")
  if shardings is None:
    shardings = dict.fromkeys(wanted)
  else:
    shardings = traverse_util.flatten_dict(shardings, sep="/")
  drawn = {}
  for name, leaf in wanted.items():
    key = _key(seed, name)
    if leaf.dtype == jnp.int8:
      paths = name, f"{name}_scale"
      both = tuple(shardings[path] for path in paths)
      drawn |= zip(paths, _draw_int8(key, leaf.shape, both), strict=True)
    elif not name.endswith("/kernel_scale"):  # drawn with their kernels
      start = _start(name, offset)
      drawn[name] = _draw(key, leaf.shape, dtype, start, shardings[name])
  return traverse_util.unflatten_dict(drawn, sep="/")


def adapter(model: Captioner, seed: int, shardings=None):
  """A fresh LoRA tree for `model`, float32: a uniform, b zeros.

  Needs no weights: shapes come from tracing. `shardings` is a tree like the
  result; every leaf is drawn straight into its place.
  """

  def draw(path, leaf, sharding=None):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return _draw_ab(_key(seed, name), leaf.shape, name[-2:] == "/a", sharding)

  tree = shapes(model)["lora"]
  trees = (tree,) if shardings is None else (tree, shardings)
  return jax.tree.map_with_path(draw, *trees)


def _key(seed: int, name: str):
  return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def _start(name: str, unit_offset: bool) -> float | None:
  """The constant a leaf starts at; None where it is drawn."""
  if name.endswith("bias"):
    return 0.0
  if name.endswith("scale"):
    return 0.0 if unit_offset and name.startswith("decoder/") else 1.0
  return None


@partial(jax.jit, static_argnums=(1, 2))
def _draw_int8(key, shape, shardings):
  leaves = int8.quantise(0.02 * jax.random.normal(key, shape))
  if None in shardings:
    return leaves
  return jax.lax.with_sharding_constraint(leaves, shardings)


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _draw(key, shape, dtype, constant, sharding):
  if constant is None:
    leaf = (0.02 * jax.random.normal(key, shape)).astype(dtype)
  else:
    leaf = jnp.full(shape, constant, dtype)
  return _placed(leaf, sharding)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _draw_ab(key, shape, is_a, sharding):
  leaf = uniform_a(key, shape) if is_a else jnp.zeros(shape, jnp.float32)
  return _placed(leaf, sharding)


def _placed(leaf, sharding):
  if sharding is None:
    return leaf
  return jax.lax.with_sharding_constraint(leaf, sharding)
