"""The tower of Qwen2.5-VL: windowed attention over pairs of frames.

RMS norms, gated MLPs with biases, rotary positions of row and column, and
attention within windows but for a few layers that see the whole grid (Qwen
team 2025, arXiv 2502.13923). Patches that the connector will join lie side by
side, windows after each other; neither order matters to attention. Every step
(a pair of frames) is attended to on its own.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from synpo_jax.models import rope
from synpo_jax.models.config import WindowTowerConfig
from synpo_jax.models.norms import rms_norm
from synpo_jax.models.vit import draw_linear, linear


class Windows(NamedTuple):
  """How a grid of units (squares of patches joined later) is cut up.

  `rows` x `cols` windows of `side` x `side` units of `merge` x `merge`
  patches; units beyond the grid are dead.
  """

  rows: int
  cols: int
  side: int
  merge: int
  alive: Bool[np.ndarray, "w l"]  # windows x patches in each
  place: Float[np.ndarray, "w*l 2"]  # row and column of each patch


class WindowTower(nn.Module):
  """Pixels to features; see `WindowTowerConfig`."""

  config: WindowTowerConfig
  dtype: DTypeLike = jnp.float32
  remat: bool = False  # recompute each layer in the backward pass

  def setup(self):
    inits = _initializers(self.config)
    self.weights = {name: self.param(name, f) for name, f in inits.items()}

  def __call__(
    self, pixels: Float[Array, "I f Y X 3"]
  ) -> Float[Array, "I K Dv"]:
    """Features of I steps of `config.frames` frames of normalised pixels.

    K squares of merge x merge patches, row by row; Dv holds a square's
    patches end to end.
    """
    c = self.config
    units = [size // (c.patch * c.merge) for size in pixels.shape[2:4]]
    windows = cut(*units, c.window // c.merge, c.merge)
    x = _embed(self.weights["patch"], pixels.astype(self.dtype), c)
    x = _to_windows(x, windows)
    x = _layers(self.weights["layers"], x, windows, c, self.remat)
    return _from_windows(x, windows, *units)


def cut(rows: int, cols: int, side: int, merge: int) -> Windows:
  """Windows of `side` units over a grid of `rows` x `cols` units."""
  down, across = -(-rows // side), -(-cols // side)
  place = np.stack(np.indices((down * side * merge, across * side * merge)))
  place = place.reshape(2, down, side, merge, across, side, merge)
  place = place.transpose(1, 4, 2, 5, 3, 6, 0).reshape(down * across, -1, 2)
  alive = (place < np.array([rows, cols]) * merge).all(axis=-1)
  flat = place.reshape(-1, 2).astype(np.float32)
  return Windows(down, across, side, merge, alive, flat)


def _embed(weights, pixels, c) -> Float[Array, "I R C m D"]:
  """Patches of a step as a grid of units of m = merge * merge patches."""
  steps, frames, height, width, _ = pixels.shape
  edge = c.patch * c.merge
  rows, cols = height // edge, width // edge
  pixels = pixels[:, :, : rows * edge, : cols * edge].reshape(
    steps, frames, rows, c.merge, c.patch, cols, c.merge, c.patch, 3
  )
  patches = pixels.transpose(0, 2, 5, 3, 6, 1, 4, 7, 8)
  patches = patches.reshape(steps, rows, cols, c.merge**2, -1)
  return linear({"kernel": weights["kernel"].reshape(-1, c.width)}, patches)


def _to_windows(x, windows: Windows) -> Float[Array, "I T D"]:
  """A grid of units as windows end to end, dead units added."""
  rows, cols, side = windows.rows, windows.cols, windows.side
  spare = (rows * side - x.shape[1], cols * side - x.shape[2])
  x = jnp.pad(x, ((0, 0), (0, spare[0]), (0, spare[1]), (0, 0), (0, 0)))
  x = x.reshape(len(x), rows, side, cols, side, *x.shape[3:])
  return x.swapaxes(2, 3).reshape(len(x), -1, x.shape[-1])


def _from_windows(x, windows, rows, cols) -> Float[Array, "I K Dv"]:
  side = windows.side
  x = x.reshape(len(x), windows.rows, windows.cols, side, side, -1)
  x = x.swapaxes(2, 3)
  x = x.reshape(len(x), windows.rows * side, windows.cols * side, -1)
  return x[:, :rows, :cols].reshape(len(x), rows * cols, -1)


def _layers(weights, x, windows, c, remat) -> Float[Array, "I T D"]:
  """Scans all layers; those in `full_layers` see across windows."""
  angles = _angles(windows, c.width // c.heads, len(x))
  sees_all = np.isin(np.arange(c.layers), c.full_layers)

  def body(x, layer):
    weights, sees_all = layer
    h = rms_norm(weights["attn_norm"]["scale"], x, c.norm_eps).astype(x.dtype)
    x += _attend(weights["attn"], h, angles, windows, sees_all, c.heads)
    h = rms_norm(weights["mlp_norm"]["scale"], x, c.norm_eps).astype(x.dtype)
    gate = jax.nn.silu(linear(weights["mlp"]["gate"], h))
    h = gate * linear(weights["mlp"]["up"], h)
    return x + linear(weights["mlp"]["down"], h), None

  body = jax.checkpoint(body, prevent_cse=False) if remat else body
  return jax.lax.scan(body, x, (weights, sees_all))[0]


def _attend(weights, x, angles, windows, sees_all, heads):
  """Attention within windows, or over all of them where `sees_all`."""
  qkv = linear(weights["qkv"], x).reshape(*x.shape[:2], 3, heads, -1)
  q, k, v = jnp.moveaxis(qkv, 2, 0)
  q, k = rope.rotate(q, *angles), rope.rotate(k, *angles)
  alive = windows.alive

  def within(qkv):
    split = [part.reshape(-1, alive.shape[1], *part.shape[2:]) for part in qkv]
    mask = None if alive.all() else jnp.tile(alive, (len(x), 1))[:, None, None]
    return jax.nn.dot_product_attention(*split, mask=mask).reshape(v.shape)

  def across(qkv):
    mask = None if alive.all() else alive.reshape(1, 1, 1, -1)
    return jax.nn.dot_product_attention(*qkv, mask=mask)

  out = jax.lax.cond(sees_all, across, within, (q, k, v))
  return linear(weights["o"], out.reshape(x.shape))


def _angles(windows: Windows, head_dim: int, steps: int):
  """(cos, sin), each [I, T, 1, h/2]: half turn with the row, half with the
  column, both at the frequencies of a head of half the size."""
  freqs = rope.frequencies(head_dim // 2, 10_000.0, None)
  turned = (windows.place[:, :, None] * freqs).reshape(1, -1, 1, head_dim // 2)
  shape = (steps, *turned.shape[1:])
  return tuple(jnp.broadcast_to(f(turned), shape) for f in (jnp.cos, jnp.sin))


def _initializers(c: WindowTowerConfig) -> dict[str, Callable]:
  """Name in the tree -> function of a key that draws that part."""
  shape = (c.frames, c.patch, c.patch, 3, c.width)
  deviation = (3 * c.frames * c.patch**2) ** -0.5
  return {
    "patch": lambda key: {"kernel": deviation * jax.random.normal(key, shape)},
    "layers": lambda key: _draw_layers(key, c),
  }


def _draw_layers(key: jax.Array, c: WindowTowerConfig) -> dict:
  """All layers, stacked on the first axis."""
  deep, width, mlp = c.layers, c.width, c.mlp_width
  keys = iter(jax.random.split(key, 5))
  return {
    "attn_norm": {"scale": jnp.ones((deep, width))},
    "attn": {
      "qkv": draw_linear(next(keys), (deep, width, 3 * width)),
      "o": draw_linear(next(keys), (deep, width, width)),
    },
    "mlp_norm": {"scale": jnp.ones((deep, width))},
    "mlp": {
      "gate": draw_linear(next(keys), (deep, width, mlp)),
      "up": draw_linear(next(keys), (deep, width, mlp)),
      "down": draw_linear(next(keys), (deep, mlp, width)),
    },
  }
