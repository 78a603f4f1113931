"""Rotation of heads, and its gradient, against pairs turned in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from synpo_jax.models import rope

N, T, H, HALF = 2, 3, 2, 4


def turned(x, angle):
  """Number i of a head and number i + half, as a complex number, turned."""
  z = (x[..., :HALF] + 1j * x[..., HALF:]) * np.exp(1j * angle[:, :, None])
  return np.concatenate([z.real, z.imag], axis=-1)


def test_heads_turn_by_their_angles_and_gradients_back():
  rng = np.random.default_rng(0)
  x, g = rng.normal(size=(2, N, T, H, 2 * HALF)).astype(np.float32)
  positions = np.int32([[0, 1, 7], [3, 5, 2]])
  freqs = rope.frequencies(2 * HALF, 100.0, None)
  angle = positions[..., None] * np.float64(freqs)
  angles = rope.angles(jnp.asarray(positions), freqs)
  out, back = jax.vjp(lambda x: rope.rotate(x, *angles), jnp.asarray(x))
  np.testing.assert_allclose(out, turned(x, angle), atol=1e-5)
  np.testing.assert_allclose(
    back(jnp.asarray(g))[0], turned(g, -angle), atol=1e-5
  )
  half = rope.rotate(jnp.asarray(x, jnp.bfloat16), *angles)
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.float32(half), turned(x, angle), atol=0.03)


def test_no_half_of_a_head_is_held_in_float32():
  """TPUs write such halves to memory: twice the bytes of the heads."""

  def both(x, g, *angles):
    _, back = jax.vjp(lambda x: rope.rotate(x, *angles), x)
    return back(g)

  heads = jnp.zeros((N, T, H, 2 * HALF), jnp.bfloat16)
  angle = jnp.zeros((N, T, 1, HALF))
  made = str(jax.make_jaxpr(both)(heads, heads, angle, angle))
  assert f"bf16[{N},{T},{H},{HALF}]" in made
  assert f"f32[{N},{T},{H},{HALF}]" not in made
