"""A frozen linear layer with a low-rank adapter that learns (LoRA).

LoRA: Hu et al., 2021, arXiv 2106.09685. The adapter lives in its own
collection `lora`, float32, at the kernel's path: `a` [in, r], `b` [r, out].
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from synpo_jax.models import dropout, int8
from synpo_jax.models.config import LoraConfig


class LoraDense(nn.Module):
  """x @ kernel + bias + (alpha / rank) * dropout(x) @ a @ b.

  int8: the kernel is held as `models.int8` says. Elements that dropout keeps
  are divided by the share that it keeps (`dropout.kept` of 256).
  """

  features: int
  lora: LoraConfig | None
  dtype: DTypeLike
  use_bias: bool = False
  int8: bool = False

  @nn.compact
  def __call__(
    self, x: Float[Array, "*N T D"], deterministic: bool = True
  ) -> Float[Array, "*N T E"]:
    # One long matrix: XLA's CPU backend is twice as slow at the weight
    # gradients of a batch of matrices.
    x_MD = x.astype(self.dtype).reshape(-1, x.shape[-1])
    y_ME = self._frozen(x_MD)
    if self.use_bias:
      bias = self.param("bias", nn.initializers.zeros, (self.features,))
      y_ME = y_ME + jnp.broadcast_to(bias.astype(self.dtype), y_ME.shape)
    if self.lora is not None:
      a = self.variable("lora", "a", self._init_a, x.shape[-1]).value
      b = self.variable(
        "lora", "b", jnp.zeros, (self.lora.rank, self.features), jnp.float32
      ).value
      kept = dropout.kept(self.lora.dropout)
      scale = self.lora.alpha / self.lora.rank
      if kept < dropout.WHOLE and not deterministic:
        drawn = dropout.draw(self.make_rng("dropout"), x.shape, kept)
        keeps = dropout.keeps(checkpoint_name(drawn, "kept"), x.shape)
        x_MD = jnp.where(keeps.reshape(x_MD.shape), x_MD, 0)
        scale *= dropout.WHOLE / kept
      y_ME = y_ME + adapter(x_MD, a, b, scale)
    return y_ME.reshape(*x.shape[:-1], self.features)

  def _frozen(self, x_MD):
    shape = x_MD.shape[-1], self.features
    if not self.int8:
      kernel = self.param("kernel", nn.initializers.normal(0.02), shape)
      return x_MD @ kernel.astype(self.dtype)
    start = nn.initializers.zeros
    q = self.param("kernel", start, shape, jnp.int8)
    scale = self.param("kernel_scale", start, shape[1:], jnp.float32)
    return int8.matmul(x_MD, q, scale, self.dtype)

  def _init_a(self, fan_in):
    return uniform_a(self.make_rng("params"), (fan_in, self.lora.rank))


def adapter(
  x: Float[Array, "... D"],
  a: Float[Array, "D r"],
  b: Float[Array, "r E"],
  scale: float,
) -> Float[Array, "... E"]:
  """scale * x @ a @ b in x's dtype; the gradients of a and b in float32.

  Without this the gradients would be rounded to x's dtype before they are
  summed over devices.
  """
  return _adapter(x, a, b, scale)


@jax.custom_vjp
def _adapter(x, a, b, scale):
  return (x @ a.astype(x.dtype)) @ b.astype(x.dtype) * scale


def _adapter_forward(x, a, b, scale):
  z = x @ a.astype(x.dtype)
  return z @ b.astype(x.dtype) * scale, (x, z, a, b, scale)


def _adapter_backward(saved, g):
  x, z, a, b, scale = saved
  g = g * scale
  dz = g @ b.astype(g.dtype).T
  da = jnp.einsum("...d,...r->dr", x, dz, preferred_element_type=jnp.float32)
  db = jnp.einsum("...r,...e->re", z, g, preferred_element_type=jnp.float32)
  dx = dz @ a.astype(g.dtype).T
  return dx, da.astype(a.dtype), db.astype(b.dtype), None


_adapter.defvjp(_adapter_forward, _adapter_backward)


def uniform_a(key, shape) -> Float[Array, "*L D r"]:
  """Float32, uniform within +-1/sqrt(D): the official adapters' start."""
  bound = 1 / math.sqrt(shape[-2])
  return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def merge(params, lora, config: LoraConfig):
  """`params` with alpha / rank * a @ b added to every adapted kernel.

  Sums are formed in float32 and returned in the kernel's dtype. Raises
  ValueError for an int8 base, whose steps are too wide for what was learned.
  """
  if not isinstance(lora, dict) or "a" not in lora:
    out = dict(params)
    for name, inner in lora.items():
      out[name] = merge(params[name], inner, config)
    return out
  scale = config.alpha / config.rank
  delta = jnp.einsum("...dr,...re->...de", lora["a"], lora["b"]) * scale
  kernel = params["kernel"]
  if kernel.dtype == jnp.int8:
    raise ValueError("an adapter is not merged into int8 weights")
  merged = (kernel.astype(jnp.float32) + delta).astype(kernel.dtype)
  return {**params, "kernel": merged}
