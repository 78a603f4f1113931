"""One vision transformer for CLIP, DINOv2 and SigLIP towers.

Pre-norm blocks over patches, features tapped after `config.tap` layers.
Layers above the tap, CLIP's last norm and pooling heads are never computed
and have no parameters here; a loader ignores them in a checkpoint.
Layer weights are stacked `[L, ...]` whether tokens merge or not.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from synpo_jax.models import tome
from synpo_jax.models.config import TowerConfig, token_counts

ACTIVATIONS = {
  "silu": jax.nn.silu,
  "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
}
# Added to the wanted grid when a position table is resized (official release)
GRID_FUDGE = {"clip": 0.1, "dinov2": 0.0, "siglip": 0.0}


class Tokens(NamedTuple):
  """What layers hand on; `S` slots, the live ones in front."""

  x: Float[Array, "I S D"]
  sizes: Float[Array, "I S"]  # patches in each token
  assignment: Int[Array, "I T"]  # the slot each first token is now in


class Tower(nn.Module):
  """Pixels to features; see `TowerConfig` for the layouts."""

  config: TowerConfig
  dtype: DTypeLike = jnp.float32
  remat: bool = False  # recompute each layer in the backward pass
  bodies: int = 6  # layers compiled apart, at most; more: fewer empty slots

  def setup(self):
    inits = _initializers(self.config)
    self.weights = {name: self.param(name, f) for name, f in inits.items()}

  def __call__(self, pixels: Float[Array, "I Y X 3"]) -> Float[Array, "I K Dv"]:
    """Features of normalised pixels, class token dropped."""
    return self.trace(pixels)[0]

  def trace(
    self, pixels: Float[Array, "I Y X 3"]
  ) -> tuple[Float[Array, "I K Dv"], Float[Array, "I S"], Int[Array, "I T"]]:
    """Features, sizes of all tokens, and where each first token ended.

    The last two count the class token, at index 0.
    """
    config = self.config
    counts = token_counts(config, *pixels.shape[1:3])
    tokens = _start(embed(self.weights, pixels.astype(self.dtype), config))
    for stage in tome.stages(counts, self.bodies):
      tokens = _run_stage(
        self.weights["layers"], tokens, stage, counts, config, self.remat
      )
    x, sizes = tokens.x[:, : counts[-1]], tokens.sizes[:, : counts[-1]]
    if config.final_norm:
      x = layer_norm(self.weights["norm"], x, config.norm_eps)
    return x[:, int(config.class_token) :], sizes, tokens.assignment


def embed(
  weights: Mapping, pixels: Float[Array, "I Y X 3"], config: TowerConfig
) -> Float[Array, "I T D"]:
  """Patches as tokens with positions, class token first."""
  size = config.patch
  rows, cols = pixels.shape[1] // size, pixels.shape[2] // size
  pixels = pixels[:, : rows * size, : cols * size]
  patches = pixels.reshape(-1, rows, size, cols, size, 3).swapaxes(2, 3)
  patches = patches.reshape(len(pixels), rows * cols, -1)
  kernel = weights["patch"]["kernel"].reshape(-1, config.width)
  x = linear({**weights["patch"], "kernel": kernel}, patches)
  if config.class_token:
    first = weights["class_token"].astype(x.dtype)
    first = jnp.broadcast_to(first, (len(x), 1, config.width))
    x = jnp.concatenate([first, x], axis=1)
  x += positions(weights["positions"], config, rows, cols).astype(x.dtype)
  if config.layout == "clip":
    x = layer_norm(weights["embed_norm"], x, config.embed_norm_eps)
  return x


def positions(
  table: Float[Array, "T D"], config: TowerConfig, rows: int, cols: int
) -> Float[Array, "1 t D"]:
  """The position table for a grid of `rows` by `cols` patches."""
  side = config.table_size // config.patch
  if (rows, cols) == (side, side):
    return table[None]
  fudge = GRID_FUDGE[config.layout]
  grid = table[int(config.class_token) :].reshape(side, side, -1)
  grid = jnp.einsum(
    "yg,xh,ghd->yxd",
    bicubic(side, rows, fudge),
    bicubic(side, cols, fudge),
    grid,
    precision="highest",
  )
  first = table[: int(config.class_token)]
  grid = grid.reshape(rows * cols, -1)
  return jnp.concatenate([first, grid])[None]


def bicubic(old: int, new: int, fudge: float) -> Float[np.ndarray, "new old"]:
  """Matrix that resizes `old` samples to `new`: a = -0.75, no antialiasing.

  Sample centres are `old / (new + fudge)` apart; beyond the border the last
  sample repeats. Computed in float64 on the host.
  """
  a = -0.75
  place = (np.arange(new) + 0.5) * old / (new + fudge) - 0.5
  taps = np.floor(place)[:, None] + np.arange(-1, 3)
  far = np.abs(place[:, None] - taps)
  near = (a + 2) * far**3 - (a + 3) * far**2 + 1
  outer = a * (far**3 - 5 * far**2 + 8 * far - 4)
  matrix = np.zeros((new, old))
  index = np.clip(taps, 0, old - 1).astype(int)
  np.add.at(
    matrix, (np.arange(new)[:, None], index), np.where(far <= 1, near, outer)
  )
  return matrix.astype(np.float32)


def _start(x: Float[Array, "I T D"]) -> Tokens:
  """Every token its own, in its own place."""
  shape = x.shape[:2]
  place = jnp.broadcast_to(jnp.arange(shape[1]), shape)
  return Tokens(x, jnp.ones(shape, jnp.float32), place)


def _run_stage(weights, tokens, stage, counts, config, remat):
  """Scans a stage's layers over one buffer of `stage.slots` slots.

  Each layer takes its weights by index: a slice of the stack per stage would
  copy the whole tower (1.0 GiB for ViT-H).
  """
  span = np.arange(stage.start, stage.stop)
  live = np.array(counts)[span]
  merges = live - np.array(counts)[span + 1]
  if not merges.any():  # every slot stays live: no mask, no matching
    live = merges = None
  x, sizes, assignment = tokens
  tokens = Tokens(x[:, : stage.slots], sizes[:, : stage.slots], assignment)

  def body(tokens, layer):
    index, live, merges = layer
    own = jax.tree.map(lambda w: w[index], weights)
    return block(own, tokens, live, merges, config), None

  body = jax.checkpoint(body, prevent_cse=False) if remat else body
  return jax.lax.scan(body, tokens, (span, live, merges))[0]


def block(
  weights: Mapping,
  tokens: Tokens,
  live: Int[Array, ""] | None,
  merges: Int[Array, ""] | None,
  config: TowerConfig,
) -> Tokens:
  """One layer: attention, merging where `live` is given, MLP."""
  x, sizes, assignment = tokens
  h = layer_norm(weights["attn_norm"], x, config.norm_eps)
  h, keys = attend(weights["attn"], h, live, config.heads)
  x += h * _rows(weights["attn_scale"], x) if config.layer_scale else h
  if live is not None:
    where = tome.destinations(jnp.mean(keys, axis=2), live, merges)
    x, sizes = tome.merge(x, sizes, where)
    assignment = jnp.take_along_axis(where, assignment, axis=1)
  h = layer_norm(weights["mlp_norm"], x, config.norm_eps)
  h = ACTIVATIONS[config.activation](linear(weights["mlp"]["up"], h))
  h = linear(weights["mlp"]["down"], h)
  x += h * _rows(weights["mlp_scale"], x) if config.layer_scale else h
  return Tokens(x, sizes, assignment)


def attend(
  weights: Mapping,
  x: Float[Array, "I S D"],
  live: Int[Array, ""] | None,
  heads: int,
) -> tuple[Float[Array, "I S D"], Float[Array, "I S H h"]]:
  """Attention of all tokens to all live ones; also returns the keys."""
  q, k, v = (
    linear(weights[name], x).reshape(*x.shape[:2], heads, -1) for name in "qkv"
  )
  mask = None
  if live is not None:
    mask = (jnp.arange(x.shape[1]) < live)[None, None, None]
  out = jax.nn.dot_product_attention(q, k, v, mask=mask)
  return linear(weights["o"], out.reshape(x.shape)), k


def linear(weights: Mapping, x: Float[Array, "*N i"]) -> Float[Array, "*N o"]:
  """`x @ kernel + bias` in the dtype of `x`; the bias may be absent."""
  x = x @ weights["kernel"].astype(x.dtype)
  return x + _rows(weights["bias"], x) if "bias" in weights else x


def layer_norm(
  weights: Mapping, x: Float[Array, "*N D"], eps: float
) -> Float[Array, "*N D"]:
  """Layer normalisation in float32, returned in the dtype of `x`."""
  wide = x.astype(jnp.float32)
  wide -= jnp.mean(wide, axis=-1, keepdims=True)
  wide *= jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + eps)
  wide = wide * _rows(weights["scale"], wide) + _rows(weights["bias"], wide)
  return wide.astype(x.dtype)


def _rows(vector: Float[Array, "D"], x: Float[Array, "*N D"]):
  """`vector` with the rank and dtype of `x`, to meet its last axis."""
  return jnp.expand_dims(vector.astype(x.dtype), range(x.ndim - 1))


def _initializers(config: TowerConfig) -> dict[str, Callable]:
  """Name in the tree -> function of a key that draws that part."""
  width, size = config.width, config.patch
  tokens = (config.table_size // size) ** 2 + config.class_token
  normal = nn.initializers.normal(0.02)
  biased = config.layout != "clip"
  inits = {
    "patch": lambda key: draw_linear(key, (size, size, 3, width), biased),
    "positions": lambda key: normal(key, (tokens, width)),
    "layers": lambda key: _layers(key, config),
  }
  if config.class_token:
    inits["class_token"] = lambda key: normal(key, (width,))
  if config.layout == "clip":
    inits["embed_norm"] = lambda key: draw_norm((width,))
  if config.final_norm:
    inits["norm"] = lambda key: draw_norm((width,))
  return inits


def _layers(key: jax.Array, config: TowerConfig) -> dict:
  """All layers that run, stacked on the first axis."""
  deep, width, mlp = config.tap, config.width, config.mlp_width
  keys = iter(jax.random.split(key, 6))
  square = (deep, width, width)
  layers = {
    "attn_norm": draw_norm((deep, width)),
    "attn": {n: draw_linear(next(keys), square) for n in ("q", "k", "v", "o")},
    "mlp_norm": draw_norm((deep, width)),
    "mlp": {
      "up": draw_linear(next(keys), (deep, width, mlp)),
      "down": draw_linear(next(keys), (deep, mlp, width)),
    },
  }
  if config.layer_scale:
    layers["attn_scale"] = jnp.ones((deep, width))
    layers["mlp_scale"] = jnp.ones((deep, width))
  return layers


def draw_norm(shape: tuple[int, ...], biased: bool = True) -> dict:
  """Scales of one, and biases of zero."""
  weights = {"scale": jnp.ones(shape)}
  return weights | ({"bias": jnp.zeros(shape)} if biased else {})


def draw_linear(key: jax.Array, shape: tuple[int, ...], biased: bool = True):
  """Kernel of variance 1 / inputs, and a zero bias; 3 axes: a layer stack."""
  stack = shape[:1] if len(shape) == 3 else ()
  inputs = math.prod(shape[len(stack) : -1])
  weights = {"kernel": jax.random.normal(key, shape) * inputs**-0.5}
  if biased:
    weights["bias"] = jnp.zeros((*stack, shape[-1]))
  return weights
