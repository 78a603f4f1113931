"""Frozen linear layers that take one byte a weight.

A kernel is q * scale: q int8 within +-127, scale float32, one for each output
channel (and layer). Beside `kernel`, which holds q, lies `kernel_scale`.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int8

BASES = ("float", "int8")  # how the frozen base is held; model.base
TINY = 1e-30  # a channel of zeros has a scale too


def quantise(
  kernel: Float[Array, "*L D E"],
) -> tuple[Int8[Array, "*L D E"], Float[Array, "*L E"]]:
  """(q, scale), the largest weight of a channel being 127 of its scale.

  q * scale is off by scale / 2 at most, the rounding of float32 aside.
  """
  kernel = kernel.astype(jnp.float32)
  scale = jnp.maximum(jnp.max(jnp.abs(kernel), axis=-2), TINY) / 127
  q = jnp.round(kernel / jnp.expand_dims(scale, -2))
  return q.astype(jnp.int8), scale


def matmul(
  x: Float[Array, "M D"],
  q: Int8[Array, "D E"],
  scale: Float[Array, " E"],
  dtype: DTypeLike,
) -> Float[Array, "M E"]:
  """(x @ q) * scale in `dtype`; sharded kernels are gathered as bytes."""
  y_ME = x @ q.astype(dtype)
  return (y_ME * jnp.broadcast_to(scale, y_ME.shape)).astype(dtype)


def set_layer(stack, scales, kernel, i) -> tuple[jax.Array, jax.Array]:
  """Layer i of a stacked (q, scale) set to what `quantise` gives."""
  q, scale = quantise(kernel)
  update = jax.lax.dynamic_update_index_in_dim
  return update(stack, q, i, 0), update(scales, scale, i, 0)


def quantise_heads(
  x: Float[Array, "*N h"],
) -> tuple[Int8[Array, "*N h"], Float[Array, "*N"]]:
  """(q, scale) of keys or values, a scale for each head of each position."""
  x = x.astype(jnp.float32)
  scale = jnp.maximum(jnp.max(jnp.abs(x), axis=-1), TINY) / 127
  return jnp.round(x / scale[..., None]).astype(jnp.int8), scale
