"""Rotary positions, half-rotation layout, computed in float32."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from synpo_jax.models.config import RopeScaling


def frequencies(
  head_dim: int, theta: float, scaling: RopeScaling | None
) -> Float[np.ndarray, "half"]:
  """Radians per position of each rotated pair, float32."""
  exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
  plain = (1.0 / np.float32(theta) ** exponent).astype(np.float32)
  if scaling is None:
    return plain
  if scaling.kind == "linear":
    return plain / np.float32(scaling.factor)
  return _llama3(plain, scaling)


def _llama3(plain, s: RopeScaling):
  """Slow waves stretched, fast ones kept, a linear blend between (Llama 3)."""
  turns = s.original_length * plain / np.float32(2 * math.pi)
  blend = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)
  blend = np.clip(blend, 0.0, 1.0)
  return ((1 - blend) * plain / s.factor + blend * plain).astype(np.float32)


def angles(
  positions: Int[Array, "N T *axes"],
  freqs: Float[np.ndarray, "half"],
  sections: tuple[int, ...] = (),
  interleaved: bool = False,
) -> tuple[Float[Array, "N T 1 half"], Float[Array, "N T 1 half"]]:
  """Cosine and sine per position. With `sections` (M-RoPE) the positions
  have three axes, of which each frequency follows one (`followed`)."""
  positions = positions.astype(jnp.float32)
  if sections:
    axis = followed(sections, interleaved, len(freqs))
    turned = positions[..., axis] * freqs[None, None]
  else:
    turned = positions[..., None] * freqs[None, None]
  return jnp.cos(turned)[:, :, None], jnp.sin(turned)[:, :, None]


def followed(
  sections: tuple[int, ...], interleaved: bool, half: int
) -> Int[np.ndarray, "half"]:
  """Which axis of the positions (time, row, column) each frequency follows.

  Section after section; interleaved (Qwen3-VL), the axes take turns while
  their sections last, and time has what is left.
  """
  if not interleaved:
    return np.repeat(np.arange(len(sections)), sections)
  axis = np.zeros(half, np.int64)
  for number, size in enumerate(sections[1:], 1):
    axis[number : size * len(sections) : len(sections)] = number
  return axis


def rotate(
  x: Float[Array, "N T H h"],
  cos: Float[Array, "N T 1 half"],
  sin: Float[Array, "N T 1 half"],
) -> Float[Array, "N T H h"]:
  """x with its first and second halves rotated as pairs; keeps x's dtype."""
  return _rotate(x, cos, sin)


@jax.custom_vjp
def _rotate(x, cos, sin):
  """Whole heads at once: TPUs write halves to memory, each in float32."""
  first, second = jnp.split(x, 2, axis=-1)
  other = jnp.concatenate([second, first], axis=-1).astype(jnp.float32)
  cos = jnp.concatenate([cos, cos], axis=-1)
  sin = jnp.concatenate([-sin, sin], axis=-1)
  return (x.astype(jnp.float32) * cos + other * sin).astype(x.dtype)


def _rotate_forward(x, cos, sin):
  return _rotate(x, cos, sin), (cos, sin)


def _rotate_backward(saved, g):
  cos, sin = saved
  return _rotate(g, cos, -sin), None, None


_rotate.defvjp(_rotate_forward, _rotate_backward)
