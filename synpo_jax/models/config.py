"""What a model is, as frozen dataclasses, and how a published config says it.

An option we do not compute is refused here, before any weight is read.
"""

import dataclasses
import math

from synpo_jax.data.batches import IMAGE_ROW, IMAGE_STEP, IMAGE_TOKEN
from synpo_jax.data.frame_size import Follow


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """How rotary frequencies are stretched: "linear" or "llama3"."""

  kind: str
  factor: float
  low_freq_factor: float = 1.0  # the rest is read by llama3 only
  high_freq_factor: float = 4.0
  original_length: int = 8192


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """A Llama-family language model. One field per published difference."""

  family: str  # the published model_type; names the tensors of its checkpoint
  vocab: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  mlp_width: int
  activation: str  # "silu" | "gelu_tanh" | "gelu"
  norm_eps: float
  rope_theta: float
  tied: bool  # the head is the embedding table
  rope_scaling: RopeScaling | None = None
  rope_local_theta: float | None = None  # sliding layers' own base (Gemma-3)
  mrope_sections: tuple[int, ...] = ()  # Qwen-VL: time, height, width
  mrope_interleaved: bool = False  # the axes take turns (Qwen3-VL)
  qkv_bias: bool = False
  o_bias: bool = False
  mlp_bias: bool = False
  window: int | None = None  # a sliding layer sees the last `window` positions
  sliding: tuple[bool, ...] = ()  # per layer; () means no layer slides
  attn_softcap: float | None = None
  final_softcap: float | None = None
  query_scale: float | None = None  # None: head_dim ** -0.5
  qk_norm: bool = False
  post_norms: bool = False  # a norm after attention and after the MLP too
  unit_offset_norm: bool = False  # norms multiply by 1 + scale
  embed_scale: bool = False  # embeddings are multiplied by sqrt(width)
  int8: bool = False  # ours: layers' kernels are held as models/int8.py says


PARTS = ("decoder", "projector", "tower")  # of a captioner


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  """Low-rank adapters on q, k, v, o and the MLP's layers; scale alpha / rank.

  where: the parts that have them, of PARTS. tower_layers: how many of the
  tower's layers, the last ones; None: all that run.
  """

  rank: int
  alpha: float
  dropout: float
  where: tuple[str, ...] | list[str] = ("decoder",)
  tower_layers: int | None = None

  def __post_init__(self):
    object.__setattr__(self, "where", tuple(self.where))  # JSON has lists

  def on(self, part: str) -> "LoraConfig | None":
    """Itself, for a part that has adapters."""
    return self if part in self.where else None


@dataclasses.dataclass(frozen=True)
class TowerConfig:
  """A vision transformer and the point where its features are tapped."""

  layout: str  # "clip" | "siglip" | "dinov2"; names the checkpoint's tensors
  image_size: int  # pixels of the (square) frames we feed
  table_size: int  # pixels the position table was made for
  patch: int
  width: int
  layers: int  # layers the merges are spread over: all of the original's
  tap: int  # layers that run: features leave after this many
  heads: int
  mlp_width: int
  activation: str  # "quick_gelu" | "gelu" | "gelu_tanh"
  norm_eps: float  # of the layers' norms and the last one
  embed_norm_eps: float  # of CLIP's norm before the first layer
  class_token: bool
  layer_scale: bool  # DINOv2
  final_norm: bool  # the last layer norm is applied to the features
  mean: tuple[float, float, float]  # of pixels in 0..1
  std: tuple[float, float, float]
  kept_ratio: float = 1.0  # token merging in every layer; 1 keeps all

  @property
  def tokens(self) -> int:
    """Visual tokens per frame that leave the tower, class token dropped."""

    return tokens_per_frame(self)

  @property
  def running(self) -> int:
    """Layers that run."""
    return self.tap


@dataclasses.dataclass(frozen=True)
class WindowTowerConfig:
  """Qwen-VL's towers: several frames at a time, attention in windows."""

  layout: str  # "qwen2_vl", "qwen2_5_vl" or "qwen3_vl"; names the tensors
  image_size: int  # pixels of the (square) frames we feed
  patch: int
  frames: int  # read together: a step
  merge: int  # the connector joins merge x merge patches
  window: int  # patches on a side of an attention window
  full_layers: tuple[int, ...]  # layers that see across windows
  width: int
  layers: int
  heads: int
  mlp_width: int
  activation: str  # "silu" (times a gate) | "quick_gelu" | "gelu_tanh"
  layer_norms: bool  # else norms are by root mean square
  patch_bias: bool
  norm_eps: float
  mean: tuple[float, float, float]  # of pixels in 0..1
  std: tuple[float, float, float]
  # Where the size of frames follows the video, as data.frame_size.Follow says:
  # pixels of a frame, or of all frames of a video; tokens of it, 0 for frames
  # of image_size.
  least: int = 0
  most: int = 2**40
  whole: bool = False
  budget: int = 0
  table: int = 0  # patches on a side of the position table; 0: there is none
  deep: tuple[int, ...] = ()  # DeepStack: layers whose outputs leave it too

  @property
  def running(self) -> int:
    """Layers that run."""
    return self.layers

  @property
  def side(self) -> int:
    """Visual tokens on a side of the square grid of a step."""
    return self.image_size // (self.patch * self.merge)

  @property
  def tokens(self) -> int:
    """Visual tokens per step."""
    return self.side**2

  @property
  def follow(self) -> Follow | None:
    """The rule for the size of frames; None where all have image_size."""
    if not self.budget:
      return None
    limits = self.least, self.most, self.whole, self.budget
    return Follow(self.patch * self.merge, self.frames, *limits)


@dataclasses.dataclass(frozen=True)
class ConnectorConfig:
  """From the features of a video to embeddings of the decoder."""

  family: str  # the published model_type; names the tensors
  pool: str | None = None  # "average" before or "bilinear" behind the MLP
  stride: int = 1  # of the pooling
  newline: bool = False  # a learned embedding closes the video
  row_newline: bool = False  # it closes each row of a frame (LLaVA-Video)
  one_block: bool = False  # one marker in the prompt for the whole video
  stamped: bool = False  # each step stands behind its time in words
  # M-RoPE: of the time axis, in one block; 0: a step takes one.
  positions_per_second: int = 0
  seconds_per_step: float = 1.0
  ids: tuple[tuple[str, int], ...] = ()  # other programs' placeholders

  def pooled(self, tokens: int) -> int:
    """Embeddings that remain of the `tokens` of a frame."""
    if self.pool is None:
      return tokens
    side = math.isqrt(tokens)
    if side**2 != tokens:
      raise ValueError(
        f"{self.family} pools a square grid, {tokens} tokens a frame are "
        "none; set kept_ratio to 1"
      )
    over = self.stride - 1 if self.pool == "bilinear" else 0
    side = (side + over) // self.stride
    return side * (side + self.row_newline)


@dataclasses.dataclass(frozen=True)
class CaptionerConfig:
  """Tower, connector and decoder; a plain language model has no tower."""

  decoder: DecoderConfig
  tower: TowerConfig | WindowTowerConfig | None = None
  connector: ConnectorConfig | None = None

  @property
  def frames_per_step(self) -> int:
    """Frames that the tower reads together; every video has whole steps."""
    windowed = isinstance(self.tower, WindowTowerConfig)
    return self.tower.frames if windowed else 1

  @property
  def stamped(self) -> bool:
    """Whether each step of a video stands behind its time in words."""
    return self.connector is not None and self.connector.stamped

  @property
  def visual_width(self) -> int:
    """Numbers of a visual embedding, with what DeepStack adds behind it."""
    return self.decoder.width * (1 + len(getattr(self.tower, "deep", ())))

  @property
  def tokens_per_frame(self) -> int:
    """Embeddings per frame (per step) that enter the decoder."""
    if self.tower is None:
      raise ValueError("a text-only model has no tokens per frame")
    return self.connector.pooled(self.tower.tokens)

  def with_kept_ratio(self, ratio: float) -> "CaptionerConfig":
    """The same captioner with another ratio of token merging."""
    if not isinstance(self.tower, TowerConfig):
      raise ValueError("this model has no tower whose tokens could be merged")
    tower = dataclasses.replace(self.tower, kept_ratio=ratio)
    return dataclasses.replace(self, tower=tower)

  @property
  def follow(self) -> Follow | None:
    """The rule for sizes of frames that follow the video, if they do."""
    return getattr(self.tower, "follow", None)

  def largest(self, num_frames: int) -> tuple[int, int]:
    """(Y, X) of frames with as many tokens as any of a video has."""
    if self.follow is not None:
      return self.follow.largest(num_frames)
    return (self.tower.image_size,) * 2

  def with_int8_base(self) -> "CaptionerConfig":
    """The same captioner, its decoder's linear layers held as int8."""
    decoder = dataclasses.replace(self.decoder, int8=True)
    return dataclasses.replace(self, decoder=decoder)

  def room(self, num_frames: int) -> int:
    """Embeddings that a video of so many frames, or fewer, takes at most."""
    if self.follow is not None:
      return self.follow.tokens
    return sum(self.blocks(num_frames))

  def blocks(
    self, num_frames: int, size: tuple[int, int] | None = None
  ) -> list[int] | list[list[int]]:
    """Placeholders behind each image marker of a prompt: how many.

    size: of the frames, (Y, X), where it follows the video: then the ids of
    the placeholders, which tell rows and steps. None is the largest.
    """
    steps, rest = divmod(num_frames, self.frames_per_step)
    if rest:
      raise ValueError(
        f"{num_frames} frames: this model reads {self.frames_per_step} at a "
        "time; set frames.fixed to a multiple of that"
      )
    if size is not None:
      unit = self.tower.patch * self.tower.merge
      rows, cols = (side // unit for side in size)
      row = [IMAGE_ROW] + [IMAGE_TOKEN] * (cols - 1)
      step = [IMAGE_STEP, *(row * rows)[1:]]
      return [step * steps] if self.connector.one_block else [step] * steps
    each = self.tokens_per_frame
    if self.follow is not None:
      each = self.follow.cells(self.follow.largest(num_frames))
    sizes = [each] * steps
    if not self.connector.one_block:
      return sizes
    return [sum(sizes) + self.connector.newline]


def merges_per_layer(config: TowerConfig, height: int, width: int) -> int:
  """Merges asked of every layer; the ratio is spread over all of them.

  Frames are `height` by `width` pixels. The rounding, and the division by
  the number of layers in the checkpoint rather than of those that run, are
  the official release's: ratio 0.1 keeps about 15 %.
  """
  if not 0 < config.kept_ratio <= 1:
    raise ValueError(f"kept_ratio {config.kept_ratio}: give 0 < ratio <= 1")
  if config.kept_ratio < 1 and not config.class_token:
    raise ValueError(
      f"kept_ratio {config.kept_ratio}: merging needs a class token, which a "
      f"{config.layout} tower lacks; set kept_ratio to 1"
    )
  patches = height * width / config.patch**2
  return int(patches * (1 - config.kept_ratio) / config.layers)


def token_counts(
  config: TowerConfig, height: int | None = None, width: int | None = None
) -> tuple[int, ...]:
  """Tokens that enter layer 0, 1, ... and leave the last that runs.

  Length `config.tap + 1`, class token included. Sizes default to the
  configured frame.
  """
  height, width = height or config.image_size, width or config.image_size
  merges = merges_per_layer(config, height, width)
  patches = (height // config.patch) * (width // config.patch)
  counts = [patches + config.class_token]
  for _ in range(config.tap):
    counts.append(counts[-1] - min(merges, (counts[-1] - 1) // 2))
  return tuple(counts)


def tokens_per_frame(config: TowerConfig) -> int:
  """Visual tokens that leave the tower per frame, class token dropped."""
  return token_counts(config)[-1] - config.class_token
