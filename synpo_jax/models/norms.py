"""Root-mean-square normalisation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class RMSNorm(nn.Module):
  """x / rms(x) times scale (or 1 + scale), in float32."""

  eps: float
  unit_offset: bool
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
    start = nn.initializers.zeros if self.unit_offset else nn.initializers.ones
    scale = self.param("scale", start, (x.shape[-1],)).astype(jnp.float32)
    if self.unit_offset:
      scale = 1 + scale
    return rms_norm(scale, x, self.eps).astype(self.dtype)


def rms_norm(
  scale: Float[Array, "D"], x: Float[Array, "*N D"], eps: float
) -> Float[Array, "*N D"]:
  """x / rms(x) times scale; float32."""
  x = x.astype(jnp.float32)
  x *= jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps)
  return x * jnp.broadcast_to(scale.astype(jnp.float32), x.shape)
