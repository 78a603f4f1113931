"""The towers of Qwen-VL: attention over pairs of frames, perhaps in windows.

Rotary positions of row and column, and attention within windows but for some
layers that see the whole grid. Qwen2.5-VL (arXiv 2502.13923) has RMS norms and
gated MLPs; Qwen3-VL (2511.21631) layer norms, plain MLPs, a table of positions
as well, and features of some layers on the way (DeepStack, 2406.04334).
Patches that the connector will join lie side by side, windows after each
other; neither order matters to attention. Every step (a pair of frames) is
attended to on its own.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from synpo_jax.models import lora as lora_math
from synpo_jax.models import rope
from synpo_jax.models.config import LoraConfig
from synpo_jax.models.connectors import between
from synpo_jax.models.tower_config import WindowTowerConfig
from synpo_jax.models.tower_layers import (
  applied_adapters,
  declare_adapters,
  draw_linear,
  draw_norm,
  linear,
  mlp,
  norm,
  rematerialised,
)


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
  """Pixels to features; see `WindowTowerConfig`.

  `split`: as `vit.Tower` has it.
  """

  config: WindowTowerConfig
  dtype: DTypeLike = jnp.float32
  remat: str = "none"  # as the decoder's
  lora: LoraConfig | None = None
  split: int = 0

  def setup(self):
    inits = _initializers(self.config)
    self.weights = {name: self.param(name, f) for name, f in inits.items()}
    self.adapters = declare_adapters(self)

  def __call__(
    self, pixels: Float[Array, "I f Y X 3"]
  ) -> Float[Array, "I K Dv"]:
    """Features of I steps of `config.frames` frames of normalised pixels.

    K squares of merge x merge patches, row by row; Dv holds a square's
    patches end to end, as the last layer leaves them, then as each of
    `config.deep` does.
    """
    return self._run(self._embed(pixels), 0, self.config.layers)

  def begin(self, pixels: Float[Array, "I f Y X 3"]) -> Float[Array, "I K Dv"]:
    """What enters layer `split`, for `finish`.

    As what leaves the tower, with those of `config.deep` that are before.
    """
    return self._run(self._embed(pixels), 0, self.split)

  def finish(
    self, begun: Float[Array, "I K Db"], deterministic: bool = True
  ) -> Float[Array, "I K Dv"]:
    """Features of what `begin` gave for frames of the configured size."""
    c, adapters = self.config, applied_adapters(self, deterministic)
    size = c.merge**2 * c.width
    shape = len(begun), c.side, c.side, c.merge**2, c.width
    x, *deep = (
      part.astype(self.dtype).reshape(shape)
      for part in jnp.split(begun, begun.shape[-1] // size, axis=-1)
    )
    return self._run(x, self.split, c.layers, deep, adapters)

  def _embed(self, pixels) -> Float[Array, "I R C m D"]:
    c = self.config
    x = _embed(self.weights["patch"], pixels.astype(self.dtype), c)
    return _add_positions(self.weights["positions"], x, c) if c.table else x

  def _run(self, x, start, stop, deep=(), adapters=None):
    """Grids [I, R, C, m, D] through layers from `start` to `stop`.

    deep: what layers in `config.deep` left before. Returns [I, K, Dv].
    """
    c, units = self.config, x.shape[1:3]
    windows = cut(*units, c.window // c.merge, c.merge)
    x, *deep = (_to_windows(part, windows) for part in (x, *deep))
    wanted = [layer for layer in c.deep if layer < stop]
    kept = jnp.zeros((len(wanted), *x.shape), x.dtype)
    if deep:
      found = [n for n, layer in enumerate(wanted) if layer < start]
      kept = kept.at[np.array(found)].set(jnp.stack(deep))
    weights = self.weights["layers"]
    last, deep = _layers(
      weights, (x, kept), windows, c, self.remat, (start, stop), adapters
    )
    taps = [_from_windows(x, windows, *units) for x in (last, *deep)]
    return jnp.concatenate(taps, axis=-1)


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
  flat = {**weights, "kernel": weights["kernel"].reshape(-1, c.width)}
  return linear(flat, patches)


def _add_positions(table, x, c) -> Float[Array, "I R C m D"]:
  """Adds the position table, stretched over the grid from corner to corner."""
  rows, cols = (size * c.merge for size in x.shape[1:3])
  down, across = (jnp.asarray(stretch(c.table, n)) for n in (rows, cols))
  square = table.astype(jnp.float32).reshape(c.table, c.table, -1)
  grid = jnp.einsum("yg,xh,ghd->yxd", down, across, square)
  shape = x.shape[1], c.merge, x.shape[2], c.merge, -1
  grid = grid.reshape(shape).swapaxes(1, 2).reshape(x.shape[1:])
  return x + grid[None].astype(x.dtype)


def stretch(old: int, new: int) -> Float[np.ndarray, "new old"]:
  """Matrix that reads `new` samples off `old`, ends on ends, linearly."""
  return between(np.linspace(0, old - 1, new), old)


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


def _layers(weights, carry, windows, c, remat, span, adapters):
  """Scans layers of `span`; those in `full_layers` see across windows.

  carry: (input [I, T, D], outputs of the layers in `deep` [n, I, T, D]), of
  which those of the span are set; returns the same. In a part of the layers
  each takes its weights by index, so that no part of the stack is copied.
  """
  angles = _angles(windows, c.width // c.heads, len(carry[0]))
  sees_all = np.isin(np.arange(c.layers), c.full_layers)
  wanted = [layer for layer in c.deep if layer < span[1]]
  places = np.full(c.layers, len(wanted))  # in what is kept; beyond: dropped
  places[wanted] = np.arange(len(wanted))
  numbers = np.arange(*span)

  def body(carry, layer):
    x, kept = carry
    number, own, sees_all, place, adapters = layer
    own = own or jax.tree.map(lambda w: w[number], weights)
    own = own if adapters is None else lora_math.attach(own, adapters)
    return step(own, x, kept, sees_all, place), None

  def step(weights, x, kept, sees_all, place):
    h = norm(weights["attn_norm"], x, c.norm_eps)
    x += _attend(weights["attn"], h, angles, windows, sees_all, c)
    x = checkpoint_name(x, "middle")
    h = norm(weights["mlp_norm"], x, c.norm_eps)
    x += mlp(weights["mlp"], h, c.activation)
    if len(kept):
      kept = kept.at[place].set(x, mode="drop")
    return x, kept

  whole = weights if len(numbers) == c.layers else None
  own = numbers, whole, sees_all[slice(*span)], places[slice(*span)], adapters
  return jax.lax.scan(rematerialised(body, remat), carry, own)[0]


def _attend(weights, x, angles, windows, sees_all, c):
  """Attention within windows, or over all of them where `sees_all`."""
  qkv = linear(weights["qkv"], x).reshape(*x.shape[:2], 3, c.heads, -1)
  q, k, v = map(checkpoint_name, jnp.moveaxis(qkv, 2, 0), "qkv")
  q, k = rope.rotate(q, *angles), rope.rotate(k, *angles)
  alive = windows.alive

  def within(qkv):
    split = [part.reshape(-1, alive.shape[1], *part.shape[2:]) for part in qkv]
    mask = None if alive.all() else jnp.tile(alive, (len(x), 1))[:, None, None]
    return jax.nn.dot_product_attention(*split, mask=mask).reshape(v.shape)

  def across(qkv):
    mask = None if alive.all() else alive.reshape(1, 1, 1, -1)
    return jax.nn.dot_product_attention(*qkv, mask=mask)

  if len(c.full_layers) == c.layers:
    out = across((q, k, v))
  else:
    out = jax.lax.cond(sees_all, across, within, (q, k, v))
  out = checkpoint_name(out, "attended")
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
  inits = {
    "patch": lambda key: _draw_patch(key, c),
    "layers": lambda key: _draw_layers(key, c),
  }
  if c.table:
    shape = (c.table**2, c.width)
    inits["positions"] = lambda key: 0.02 * jax.random.normal(key, shape)
  return inits


def _draw_patch(key: jax.Array, c: WindowTowerConfig) -> dict:
  """The kernel over a step's patch, and perhaps a bias."""
  shape = (c.frames, c.patch, c.patch, 3, c.width)
  deviation = (3 * c.frames * c.patch**2) ** -0.5
  weights = {"kernel": deviation * jax.random.normal(key, shape)}
  if c.patch_bias:
    weights["bias"] = jnp.zeros(c.width)
  return weights


def _draw_layers(key: jax.Array, c: WindowTowerConfig) -> dict:
  """All layers, stacked on the first axis."""
  deep, width, mlp = c.layers, c.width, c.mlp_width
  names = ("gate", "up") if c.activation == "silu" else ("up",)
  keys = iter(jax.random.split(key, 3 + len(names)))
  weights = {
    "attn": {
      "qkv": draw_linear(next(keys), (deep, width, 3 * width)),
      "o": draw_linear(next(keys), (deep, width, width)),
    },
    "mlp": {n: draw_linear(next(keys), (deep, width, mlp)) for n in names}
    | {"down": draw_linear(next(keys), (deep, mlp, width))},
  }
  for name in ("attn_norm", "mlp_norm"):
    weights[name] = draw_norm((deep, width), c.layer_norms)
  return weights
