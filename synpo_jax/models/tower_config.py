"""What a tower is, as frozen dataclasses, and how many tokens leave it."""

import dataclasses

from synpo_jax.data.frame_size import Follow


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
