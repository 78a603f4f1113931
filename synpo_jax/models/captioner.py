"""Tower, projector and decoder: a video and a text in, logits out."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, UInt8

from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.models import positions
from synpo_jax.models.attention import XLA, Backend
from synpo_jax.models.config import PARTS, CaptionerConfig, LoraConfig
from synpo_jax.models.connectors import Connector, PatchMerger
from synpo_jax.models.decoder import KV, Decoder, Pages
from synpo_jax.models.lora import tower_split
from synpo_jax.models.packed_rows import Pairs, Slots
from synpo_jax.models.qwen_vit import WindowTower
from synpo_jax.models.tower_config import WindowTowerConfig
from synpo_jax.models.vit import Tower


class Captioner(nn.Module):
  """A video language model, or a plain one where the config has no tower.

  `dtype` is that of the computation; weights are cast to it at their use.
  `remat` is a key of `remat.REMAT` or "none". `split`: as `lora.tower_split`
  has it for the adapter that features are encoded for, with or without it.
  """

  config: CaptionerConfig
  lora: LoraConfig | None = None
  dtype: DTypeLike = jnp.float32
  remat: str = "none"
  attention: Backend = XLA
  split: int | None = None

  def setup(self):
    c, remat = self.config, "none" if self.split is None else self.remat
    lora = {part: self.lora and self.lora.on(part) for part in PARTS}
    self.decoder = Decoder(
      c.decoder, lora["decoder"], self.dtype, self.remat, self.attention
    )
    kinds, connector = (Tower, Connector), c.connector
    if isinstance(c.tower, WindowTowerConfig):
      kinds, connector = (WindowTower, PatchMerger), c.tower
    if c.tower is not None:
      own = dict(remat=remat, lora=lora["tower"], split=self.split or 0)
      self.tower = kinds[0](c.tower, dtype=self.dtype, **own)
      self.projector = kinds[1](
        connector, c.decoder.width, self.dtype, lora["projector"]
      )

  def encode(
    self, frames: UInt8[Array, "B F Y X 3"]
  ) -> Float[Array, "B S K Dv"]:
    """Tower features of every step: what a feature cache stores.

    A step is a frame, or the `config.frames_per_step` that a tower reads
    together. With a `split` the features are what enters that layer.
    """
    pixels = normalise(frames, self.config.tower.mean, self.config.tower.std)
    return self.encode_pixels(pixels)

  def encode_pixels(
    self, pixels: Float[Array, "B F Y X 3"]
  ) -> Float[Array, "B S K Dv"]:
    """As `encode`, for pixels that are normalised already."""
    B, F, *rest = pixels.shape
    together = self.config.frames_per_step
    if F % together:
      raise ValueError(f"{F} frames: this tower reads {together} at a time")
    group = (together,) if isinstance(self.tower, WindowTower) else ()
    encode = self.tower if self.split is None else self.tower.begin
    features = encode(pixels.reshape(-1, *group, *rest))
    return features.reshape(B, F // together, *features.shape[1:])

  def connect(
    self, features: Float[Array, "B S K Dv"], deterministic: bool = True
  ) -> Float[Array, "B M W"]:
    """The embeddings of a video, step after step, from what `encode` gave.

    W is D; for a tower with deep features so many times D more, which
    `decode` adds to what leaves its first layers (DeepStack).
    """
    if self.split is not None:
      steps = features.shape[:2]
      features = features.reshape(-1, *features.shape[2:])
      features = self.tower.finish(features, deterministic)
      features = features.reshape(*steps, *features.shape[1:])
    return self.projector(features, deterministic)

  def embed(
    self,
    tokens: Int[Array, "N T"],
    visual: Float[Array, "B M W"] | None,
    pair: Int[Array, "N T"] | None = None,
  ) -> Float[Array, "N T W"]:
    """Embeddings; the i-th IMAGE_TOKEN of a row takes the row's visual i.

    So do IMAGE_ROW and IMAGE_STEP. Without `visual` W is D. Text has zeros
    behind its embeddings. Where rows hold K pairs each, which follow each
    other, B is N * K, and `pair` says whose a token is: what is said of a row
    holds of a pair then.

    Where a learned embedding closes the video, a row's last IMAGE_TOKEN takes
    the last visual, however many of the frames before it are the row's own.
    """
    is_image_NT = tokens <= IMAGE_TOKEN
    x_NTD = self.decoder.embed_tokens(jnp.where(is_image_NT, 0, tokens))
    if visual is None:
      return x_NTD
    length, first = visual.shape[1], 0
    count_NT = jnp.cumsum(is_image_NT, axis=1)
    whole_NT = count_NT[:, -1:]
    if pair is not None:
      count_NT, whole_NT = _within(is_image_NT, pair, len(visual) // len(pair))
      first = pair * length
      visual = visual.reshape(len(pair), -1, visual.shape[-1])
    index_NT = jnp.maximum(count_NT - 1, 0)
    if self.config.connector.newline:
      index_NT = jnp.where(count_NT == whole_NT, length - 1, index_NT)
    index_NT += first
    picked_NTW = jnp.take_along_axis(
      visual.astype(x_NTD.dtype), index_NT[..., None], axis=1, mode="clip"
    )
    deeper = visual.shape[-1] - x_NTD.shape[-1]
    x_NTW = jnp.pad(x_NTD, ((0, 0), (0, 0), (0, deeper)))
    return jnp.where(is_image_NT[..., None], picked_NTW, x_NTW)

  def positions(
    self, tokens: Int[Array, "N T"], mask: Bool[Array, "N T"]
  ) -> tuple[Int[Array, "N T *axes"], Int[Array, "N"]]:
    """Positions of real tokens, and the first free one of a row.

    Padding may lie anywhere; its positions mean nothing. Under M-RoPE there
    are three axes, and a row's video is one unbroken run of IMAGE_TOKENs, or
    one for each step, as the connector says. Steps are of the tower's own
    square, unless IMAGE_STEP and IMAGE_ROW tell where they and rows begin.
    """
    if not self.config.decoder.mrope_sections:
      return positions.counted(mask)
    side, connector = 1, self.config.connector
    if self.config.tower is not None:
      side = self.config.tower.side
    is_visual, grid = tokens <= IMAGE_TOKEN, positions.grid(tokens, side)
    if connector is None or connector.stamped:
      return positions.with_steps(is_visual, mask, grid)
    pace = connector.positions_per_second * connector.seconds_per_step
    return positions.with_video(is_visual, mask, grid, pace or 1.0)

  def decode(
    self,
    x: Float[Array, "N T W"],
    positions: Int[Array, "N T *axes"],
    segments: Int[Array, "N T"],
    past: tuple[KV | Pages, ...] = (),
    deterministic: bool = True,
    slots: Slots | Pairs | None = None,
  ) -> tuple[Float[Array, "N T D"], KV]:
    """Hidden states after the final norm, and the rows' own keys."""
    return self.decoder(x, positions, segments, past, deterministic, slots)

  def logits(self, hidden: Float[Array, "*N D"]) -> Float[Array, "*N V"]:
    """Float32 logits."""
    return self.decoder.logits(hidden)

  def head_kernel(self) -> Float[Array, "D V"]:
    """The matrix that turns hidden states into logits."""
    return self.decoder.head_kernel()

  def __call__(self, frames, tokens) -> Float[Array, "N T V"]:
    """Logits of unpadded rows: frames uint8 [N,F,Y,X,3] or None, tokens."""
    visual = None
    if frames is not None:
      visual = self.connect(self.encode(frames))
    x = self.embed(tokens, visual)
    mask = jnp.ones(tokens.shape, bool)
    positions, _ = self.positions(tokens, mask)
    hidden, _ = self.decode(x, positions, mask.astype(jnp.int32))
    return self.logits(hidden)


def _within(is_image_NT, pair_NT, places: int):
  """Image tokens of its pair up to each token, and in all, [N, T] each."""
  is_own_NTK = pair_NT[..., None] == jnp.arange(places)[None, None]
  whole_NK = jnp.sum(is_image_NT[..., None] & is_own_NTK, axis=1)
  before_NK = jnp.cumsum(whole_NK, axis=1) - whole_NK
  before_NT, whole_NT = (
    jnp.take_along_axis(x, pair_NT, axis=1) for x in (before_NK, whole_NK)
  )
  return jnp.cumsum(is_image_NT, axis=1) - before_NT, whole_NT


def visual_embeddings(
  model: Captioner,
  variables,
  frames: UInt8[Array, "B F Y X 3"] | None,
  features: Float[Array, "B S K Dv"] | None,
  rngs: dict | None = None,
) -> Float[Array, "B M D"] | None:
  """What the decoder reads of frames, or of their features; None for text.

  rngs: switch the dropout of adapters on.
  """
  if features is None and frames is not None:
    features = model.apply(variables, frames, method="encode")
  if features is None:
    return None
  return model.apply(
    variables, features, rngs is None, rngs=rngs, method="connect"
  )


def normalise(frames: UInt8[Array, "*N 3"], mean, std) -> Float[Array, "*N 3"]:
  """Pixels 0..255 to float32 in units of the tower's mean and deviation."""
  shape = (1,) * (frames.ndim - 1) + (3,)
  mean = np.asarray(mean, np.float32).reshape(shape)
  std = np.asarray(std, np.float32).reshape(shape)
  return (frames.astype(jnp.float32) / 255 - mean) / std


def make(config: CaptionerConfig, lora: LoraConfig | None, **fields):
  """A captioner whose tower is split where the adapter begins.

  Raises ValueError for an adapter on what the config does not have.
  """
  return Captioner(config, lora, split=tower_split(config, lora), **fields)


def shapes(model: Captioner):
  """Shapes and dtypes of `params` (and `lora`), without computing a thing."""
  plain = model.clone(remat="none", attention=XLA)
  return jax.tree.map(lambda leaf: leaf, _shapes(plain))  # theirs to change


@functools.lru_cache(maxsize=8)
def _shapes(model):
  frames = None
  if model.config.tower is not None:
    side = model.config.tower.image_size
    together = model.config.frames_per_step
    frames = jax.ShapeDtypeStruct((1, together, side, side, 3), jnp.uint8)
  tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  return jax.eval_shape(model.init, key, frames, tokens)
