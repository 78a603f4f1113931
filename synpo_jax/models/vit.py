"""One vision transformer for CLIP, DINOv2 and SigLIP towers.

Pre-norm blocks over patches, features tapped after `config.tap` layers.
Layers above the tap, CLIP's last norm and pooling heads are never computed
and have no parameters here; a loader ignores them in a checkpoint.
Layer weights are stacked `[L, ...]` whether tokens merge or not.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from synpo_jax.models import lora as lora_math
from synpo_jax.models import tome
from synpo_jax.models.config import LoraConfig
from synpo_jax.models.position_table import positions
from synpo_jax.models.tower_config import TowerConfig, token_counts
from synpo_jax.models.tower_layers import (
  ACTIVATIONS,
  applied_adapters,
  declare_adapters,
  draw_linear,
  draw_norm,
  layer_norm,
  linear,
  on_rows,
  rematerialised,
)


class Tokens(NamedTuple):
  """What layers hand on; `S` slots, the live ones in front."""

  x: Float[Array, "I S D"]
  sizes: Float[Array, "I S"]  # patches in each token
  assignment: Int[Array, "I T"]  # the slot each first token is now in


class Tower(nn.Module):
  """Pixels to features; see `TowerConfig` for the layouts.

  `split`: layers from there on may have adapters; `begin` computes those
  before, `finish` the others.
  """

  config: TowerConfig
  dtype: DTypeLike = jnp.float32
  remat: str = "none"  # as the decoder's
  bodies: int = 6  # layers compiled apart, at most; more: fewer empty slots
  lora: LoraConfig | None = None
  split: int = 0

  def setup(self):
    inits = _initializers(self.config)
    self.weights = {name: self.param(name, f) for name, f in inits.items()}
    self.adapters = declare_adapters(self)

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
    tokens = self._run(tokens, counts, 0, config.tap)
    x, sizes = tokens.x[:, : counts[-1]], tokens.sizes[:, : counts[-1]]
    return self._features(x), sizes, tokens.assignment

  def begin(self, pixels: Float[Array, "I Y X 3"]) -> Float[Array, "I T Dt"]:
    """Tokens that enter layer `split`, class token first; for `finish`.

    Where tokens have merged Dt is D + 2: their sizes in 256s and ones, which
    are exact in bfloat16.
    """
    counts = token_counts(self.config, *pixels.shape[1:3])
    tokens = _start(embed(self.weights, pixels.astype(self.dtype), self.config))
    x, sizes, _ = self._run(tokens, counts, 0, self.split)
    live = counts[self.split]
    if live == counts[0]:
      return x[:, :live]
    many = jnp.floor(sizes[:, :live] / 256)
    packed = jnp.stack([many, sizes[:, :live] - 256 * many], axis=-1)
    return jnp.concatenate([x[:, :live], packed.astype(x.dtype)], axis=-1)

  def finish(
    self, begun: Float[Array, "I T Dt"], deterministic: bool = True
  ) -> Float[Array, "I K D"]:
    """Features of what `begin` gave for frames of the configured size."""
    counts, width = token_counts(self.config), self.config.width
    if begun.shape[1] != counts[self.split]:
      raise ValueError(
        f"{begun.shape[1]} tokens enter layer {self.split} of the tower, not "
        f"{counts[self.split]}: frames are of another size"
      )
    tokens = _start(begun[..., :width].astype(self.dtype))
    if begun.shape[-1] > width:
      packed = begun[..., width:].astype(jnp.float32)
      tokens = tokens._replace(sizes=256 * packed[..., 0] + packed[..., 1])
    adapters = applied_adapters(self, deterministic)
    tokens = self._run(tokens, counts, self.split, self.config.tap, adapters)
    return self._features(tokens.x[:, : counts[-1]])

  def _run(self, tokens, counts, start, stop, adapters=None) -> Tokens:
    """Layers from `start` to `stop`, which the adapters are of."""
    weights = self.weights["layers"]
    for stage in tome.stages(counts[start : stop + 1], self.bodies):
      own = jax.tree.map(lambda x, s=stage: x[s.start : s.stop], adapters)
      stage = stage._replace(start=stage.start + start, stop=stage.stop + start)
      tokens = _run_stage(
        weights, tokens, stage, counts, self.config, self.remat, own
      )
    return tokens

  def _features(self, x) -> Float[Array, "I K D"]:
    if self.config.final_norm:
      x = layer_norm(self.weights["norm"], x, self.config.norm_eps)
    return x[:, int(self.config.class_token) :]


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


def _start(x: Float[Array, "I T D"]) -> Tokens:
  """Every token its own, in its own place."""
  shape = x.shape[:2]
  place = jnp.broadcast_to(jnp.arange(shape[1]), shape)
  return Tokens(x, jnp.ones(shape, jnp.float32), place)


def _run_stage(weights, tokens, stage, counts, config, remat, adapters):
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
    index, live, merges, adapters = layer
    own = jax.tree.map(lambda w: w[index], weights)
    if adapters is not None:
      own = lora_math.attach(own, adapters)
    return block(own, tokens, live, merges, config), None

  body = rematerialised(body, remat)
  return jax.lax.scan(body, tokens, (span, live, merges, adapters))[0]


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
  x += h * on_rows(weights["attn_scale"], x) if config.layer_scale else h
  x = checkpoint_name(x, "middle")
  if live is not None:
    where = tome.destinations(jnp.mean(keys, axis=2), live, merges)
    x, sizes = tome.merge(x, sizes, where)
    assignment = jnp.take_along_axis(where, assignment, axis=1)
  h = layer_norm(weights["mlp_norm"], x, config.norm_eps)
  h = checkpoint_name(linear(weights["mlp"]["up"], h), "up")
  h = ACTIVATIONS[config.activation](h)
  h = linear(weights["mlp"]["down"], h)
  x += h * on_rows(weights["mlp_scale"], x) if config.layer_scale else h
  return Tokens(x, sizes, assignment)


def attend(
  weights: Mapping,
  x: Float[Array, "I S D"],
  live: Int[Array, ""] | None,
  heads: int,
) -> tuple[Float[Array, "I S D"], Float[Array, "I S H h"]]:
  """Attention of all tokens to all live ones; also returns the keys."""
  q, k, v = (
    checkpoint_name(linear(weights[name], x), name).reshape(
      *x.shape[:2], heads, -1
    )
    for name in "qkv"
  )
  mask = None
  if live is not None:
    mask = (jnp.arange(x.shape[1]) < live)[None, None, None]
  out = jax.nn.dot_product_attention(q, k, v, mask=mask)
  out = checkpoint_name(out, "attended")
  return linear(weights["o"], out.reshape(x.shape)), k


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
