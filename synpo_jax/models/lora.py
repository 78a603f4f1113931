"""A frozen linear layer with a low-rank adapter that learns (LoRA).

LoRA: Hu et al., 2021, arXiv 2106.09685. The adapter lives in its own
collection `lora`, float32, at the kernel's path: `a` [in, r], `b` [r, out].
In the decoder and the projector a `LoraDense` holds both; the layers of a tower
are plain trees of weights, to which `on_layers` and `attach` bring theirs.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from synpo_jax.models import dropout, int8
from synpo_jax.models.config import PARTS, CaptionerConfig, LoraConfig


def tower_split(sizes: CaptionerConfig, lora: LoraConfig | None) -> int | None:
  """The first layer of the tower that has an adapter; None: none has.

  Raises ValueError for adapters on what the model does not have.
  """
  if lora is None:
    return None
  said = f"lora.where={lora.where}"
  if not lora.where or not set(lora.where) <= set(PARTS):
    raise ValueError(f"{said}: name one or more of {', '.join(PARTS)}")
  if sizes.tower is None and lora.where != ("decoder",):
    raise ValueError(
      f"{said}: a language model has no tower and no projector; set "
      "lora.where=('decoder',)"
    )
  most = lora.tower_layers
  if "tower" not in lora.where:
    if most is not None:
      raise ValueError(f"lora.tower_layers={most}, but {said} has no tower")
    return None
  layers = sizes.tower.running
  if most is not None and not 1 <= most <= layers:
    raise ValueError(
      f"lora.tower_layers={most}: {layers} layers of the tower run; give 1 to "
      f"{layers}, or None for all"
    )
  return layers - (most or layers)


def describe(
  lora: LoraConfig, sizes: CaptionerConfig, split: int | None
) -> str:
  """Where an adapter is, in words; split: as `tower_split` has it."""
  said = f"rank {lora.rank} on {', '.join(lora.where)}"
  if split is None:
    return said
  layers = sizes.tower.running
  return f"{said} (of {layers} layers that run, the last {layers - split})"


class LoraDense(nn.Module):
  """x @ kernel + bias + (alpha / rank) * dropout(x) @ a @ b.

  int8: the kernel is held as `models.int8` says.
  """

  features: int
  lora: LoraConfig | None
  dtype: DTypeLike
  use_bias: bool = False
  int8: bool = False

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "*N T D"],
    dropped: Float[Array, "*N T D"] | None = None,
  ) -> Float[Array, "*N T E"]:
    """dropped: x as `dropped` gave it, for all that read the same x."""
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
      y_ME = y_ME + added(x_MD, dropped, a, b, self.lora)
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


def drops(config: LoraConfig) -> bool:
  """Whether an adapter has dropout."""
  return dropout.kept(config.dropout) < dropout.WHOLE


def dropped(
  module, x: Float[Array, "*N T D"], deterministic: bool
) -> Float[Array, "*N T D"] | None:
  """A module's x for its adapters, elements dropped; None: without dropout."""
  lora = module.lora
  if deterministic or lora is None or not drops(lora):
    return None
  return drop(x.astype(module.dtype), lora, module.make_rng("dropout"))


def drop(x: Float[Array, "*N T D"], config: LoraConfig, key):
  """x, zero where dropout keeps nothing; `added` scales what it keeps."""
  drawn = dropout.draw(key, x.shape, dropout.kept(config.dropout))
  keeps = dropout.keeps(checkpoint_name(drawn, "kept"), x.shape)
  return jnp.where(keeps, x, 0)


def added(x_MD, dropped, a, b, config: LoraConfig) -> Float[Array, "M E"]:
  """What an adapter adds for rows, or for what dropout left of them.

  What is kept is divided by the share that is kept (`dropout.kept` of 256).
  """
  scale = config.alpha / config.rank
  if dropped is not None:
    x_MD = dropped.reshape(x_MD.shape)
    scale *= dropout.WHOLE / dropout.kept(config.dropout)
  return adapter(x_MD, a, b, scale)


@struct.dataclass
class Adapter:
  """The adapter of one linear layer, or of a stack of them, as it is applied.

  a [*L, D, r], b [*L, r, E]; key: [*L] of its dropout, None: without.
  """

  a: Any
  b: Any
  key: Any
  config: LoraConfig = struct.field(pytree_node=False)

  def __call__(self, x: Float[Array, "*N T D"]) -> Float[Array, "*N T E"]:
    """What it adds to the layer's output, in x's dtype."""
    rows = x.reshape(-1, x.shape[-1])
    left = None if self.key is None else drop(x, self.config, self.key)
    y = added(rows, left, self.a, self.b, self.config)
    return y.reshape(*x.shape[:-1], -1)


def on_layers(weights, first: int, rank: int, key):
  """A fresh tree for the kernels [L, D, E] of stacked layers, from `first` on.

  key: that `a` is drawn with.
  """
  if "kernel" in weights:
    L, D, E = weights["kernel"].shape
    a = uniform_a(key, (L - first, D, rank))
    return {"a": a, "b": jnp.zeros((L - first, rank, E), jnp.float32)}
  return {
    name: on_layers(inner, first, rank, jax.random.fold_in(key, place))
    for place, (name, inner) in enumerate(sorted(weights.items()))
    if isinstance(inner, Mapping) and not name.endswith("norm")
  }


def of_layers(tree, config: LoraConfig, key):
  """What `on_layers` made, as stacks of Adapters.

  key: what their dropout's keys are folded from; None: without.
  """
  pairs, treedef = jax.tree.flatten(tree, is_leaf=lambda node: "a" in node)
  made = []
  for place, pair in enumerate(pairs):
    keys = None
    if key is not None:
      keys = jax.random.split(jax.random.fold_in(key, place), len(pair["a"]))
    made.append(Adapter(pair["a"], pair["b"], keys, config))
  return jax.tree.unflatten(treedef, made)


def attach(weights, adapters):
  """A layer's weights, each adapted kernel with its Adapter beside it."""
  if isinstance(adapters, Adapter):
    return {**weights, "adapter": adapters}
  inner = {name: attach(weights[name], x) for name, x in adapters.items()}
  return {**weights, **inner}


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
  return _adapter_forward(x, a, b, scale)[0]


def _adapter_forward(x, a, b, scale):
  z = checkpoint_name(x @ a.astype(x.dtype), "inner")
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

  Where only the last layers of a stack are adapted, to those. Sums are formed
  in float32 and returned in the kernel's dtype. Raises ValueError for an int8
  base, whose steps are too wide for what was learned.
  """
  if not isinstance(lora, dict) or "a" not in lora:
    out = dict(params)
    for name, inner in lora.items():
      out[name] = merge(params[name], inner, config)
    return out
  scale = config.alpha / config.rank
  delta = jnp.einsum("...dr,...re->...de", lora["a"], lora["b"]) * scale
  kernel = params["kernel"]
  if kernel.ndim > 2:
    before = len(kernel) - len(delta)
    delta = jnp.pad(delta, ((before, 0), (0, 0), (0, 0)))
  if kernel.dtype == jnp.int8:
    raise ValueError("an adapter is not merged into int8 weights")
  merged = (kernel.astype(jnp.float32) + delta).astype(kernel.dtype)
  return {**params, "kernel": merged}
