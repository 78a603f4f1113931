"""What a model is, as frozen dataclasses, and how a published config says it.

An option we do not compute is refused here, before any weight is read.
"""

import dataclasses
import math

from synpo_jax.data.batches import IMAGE_ROW, IMAGE_STEP, IMAGE_TOKEN
from synpo_jax.data.frame_size import Follow
from synpo_jax.models.tower_config import TowerConfig, WindowTowerConfig


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
