"""What stands between a tower and a decoder: pooling, MLP, closing token."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from synpo_jax.models.config import ConnectorConfig, LoraConfig
from synpo_jax.models.lora import LoraDense, dropped
from synpo_jax.models.norms import rms_norm
from synpo_jax.models.tower_config import WindowTowerConfig
from synpo_jax.models.tower_layers import draw_norm, layer_norm


class Connector(nn.Module):
  """Features of a video to embeddings, as `ConnectorConfig` says.

  A two-layer MLP with an exact GELU; LLaVA-NeXT-Video averages squares of
  patches before it, LLaVA-OneVision resizes the grid behind it and closes
  the video with a learned embedding, LLaVA-Video each row of a frame.
  """

  config: ConnectorConfig
  width: int  # of the decoder
  dtype: DTypeLike
  lora: LoraConfig | None = None

  @nn.compact
  def __call__(
    self, x: Float[Array, "B F K Dv"], deterministic: bool = True
  ) -> Float[Array, "B M D"]:
    c = self.config
    if c.pool == "average":
      x = average_pool(x, c.stride)
    x = mlp(self, x, self.width, deterministic)
    if c.pool == "bilinear":
      x = bilinear_pool(x, c.stride)
    if c.newline or c.row_newline:
      start = nn.initializers.normal(self.width**-0.5)
      newline = self.param("newline", start, (self.width,)).astype(self.dtype)
    if c.row_newline:
      side = math.isqrt(x.shape[2])
      x = _close(x.reshape(*x.shape[:2], side, side, self.width), newline)
    x = x.reshape(x.shape[0], -1, self.width)
    return _close(x, newline) if c.newline else x


def _close(x: Float[Array, "*N T D"], newline) -> Float[Array, "*N t D"]:
  """Each row with one more embedding at its end."""
  last = jnp.broadcast_to(newline, (*x.shape[:-2], 1, x.shape[-1]))
  return jnp.concatenate([x, last], axis=-2)


class PatchMerger(nn.Module):
  """Qwen-VL: the patches of a square, each normalised, through one MLP.

  Deep features (DeepStack) go through a merger of their own for each layer,
  with a norm over the whole square; what they become stands behind the
  embeddings on the last axis, so that W is D times one more than the layers.
  """

  tower: WindowTowerConfig
  width: int  # of the decoder
  dtype: DTypeLike
  lora: LoraConfig | None = None
  whole: bool = False  # the norm is over a square

  @nn.compact
  def __call__(
    self, x: Float[Array, "B F K Dv"], deterministic: bool = True
  ) -> Float[Array, "B M W"]:
    c = self.tower
    own, *deep = jnp.split(x, 1 + len(c.deep), axis=-1)
    shape = own.shape
    x = own if self.whole else own.reshape(*shape[:3], -1, c.width)
    x = self._norm(x).astype(self.dtype).reshape(shape)
    x = mlp(self, x, shape[-1], deterministic)
    parts = [x.reshape(shape[0], -1, self.width)]
    plain = dataclasses.replace(c, deep=())
    for number, part in enumerate(deep):
      name = f"deep_{number}"
      own = dict(lora=self.lora, whole=True, name=name)
      merger = PatchMerger(plain, self.width, self.dtype, **own)
      parts.append(merger(part, deterministic))
    return jnp.concatenate(parts, axis=-1)

  def _norm(self, x) -> Float[Array, "*N D"]:
    layer_norms, size = self.tower.layer_norms, x.shape[-1]
    norm = self.param("norm", lambda _: draw_norm((size,), layer_norms))
    if layer_norms:
      return layer_norm(norm, x, self.tower.norm_eps)
    return rms_norm(norm["scale"], x, self.tower.norm_eps)


def mlp(module, x, hidden: int, deterministic: bool) -> Float[Array, "*N D"]:
  """Two linear layers with an exact GELU between, those of a connector."""
  dense = functools.partial(
    LoraDense, lora=module.lora, dtype=module.dtype, use_bias=True
  )
  x = dense(hidden, name="fc0")(x, dropped(module, x, deterministic))
  x = jax.nn.gelu(x, approximate=False)
  left = dropped(module, x, deterministic)
  return dense(module.width, name="fc1")(x, left)


def average_pool(
  x: Float[Array, "B F K D"], stride: int
) -> Float[Array, "B F k D"]:
  """Means of `stride` x `stride` patches; what is left at the edges goes."""
  side = math.isqrt(x.shape[2])
  new = side // stride
  matrix = np.zeros((new, side), np.float32)
  matrix[np.arange(new * stride) // stride, np.arange(new * stride)] = 1
  return _resize(x, matrix / stride)


def bilinear_pool(
  x: Float[Array, "B F K D"], stride: int
) -> Float[Array, "B F k D"]:
  """The grid resized to 1 / stride, rounded up: bilinear, no antialiasing."""
  side = math.isqrt(x.shape[2])
  return _resize(x, bilinear(side, -(-side // stride)))


def bilinear(old: int, new: int) -> Float[np.ndarray, "new old"]:
  """Matrix that resizes `old` samples to `new` between the nearest two."""
  return between(np.maximum((np.arange(new) + 0.5) * old / new - 0.5, 0), old)


def between(
  place: Float[np.ndarray, " new"], old: int
) -> Float[np.ndarray, "new old"]:
  """Matrix that reads samples at `place`, linearly between the nearest two."""
  below = np.floor(place).astype(int)
  above = np.minimum(below + 1, old - 1)
  matrix = np.zeros((len(place), old))
  rows = np.arange(len(place))
  np.add.at(matrix, (rows, below), 1 - (place - below))
  np.add.at(matrix, (rows, above), place - below)
  return matrix.astype(np.float32)


def _resize(x, matrix) -> Float[Array, "B F k D"]:
  """Applies a matrix to both sides of the square grid of each frame."""
  new, side = matrix.shape
  grid = x.reshape(*x.shape[:2], side, side, x.shape[-1])
  matrix = jnp.asarray(matrix, x.dtype)
  grid = jnp.einsum("yg,xh,bfghd->bfyxd", matrix, matrix, grid)
  return grid.reshape(*x.shape[:2], new**2, x.shape[-1])
