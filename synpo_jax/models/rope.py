"""Rotary positions, half-rotation layout, computed in float32."""

import math

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
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  turned = [first * cos - second * sin, second * cos + first * sin]
  return jnp.concatenate(turned, axis=-1).astype(x.dtype)
