"""What a model is, as frozen dataclasses, and how a published config says it.

An option we do not compute is refused here, before any weight is read.
"""

import dataclasses
import json
import pathlib

from synpo_jax.models import families
from synpo_jax.models.published import DEFAULTS, PIXELS

IMAGE_TOKEN = -200  # a placeholder id: one visual embedding goes here


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


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  """Low-rank adapters on q, k, v, o, gate, up, down; scale alpha / rank."""

  rank: int
  alpha: float
  dropout: float


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
    from synpo_jax.models import tome  # imports this module

    return tome.tokens_per_frame(self)


@dataclasses.dataclass(frozen=True)
class CaptionerConfig:
  """Tower, connector and decoder; a plain language model has no tower."""

  decoder: DecoderConfig
  tower: TowerConfig | None = None
  connector: str | None = None  # "mlp2x_gelu"

  @property
  def tokens_per_frame(self) -> int:
    """Embeddings per frame that enter the decoder."""
    if self.tower is None:
      raise ValueError("a text-only model has no tokens per frame")
    return self.tower.tokens

  def with_kept_ratio(self, ratio: float) -> "CaptionerConfig":
    """The same captioner with another ratio of token merging."""
    if self.tower is None:
      raise ValueError("a text-only model has no kept ratio")
    tower = dataclasses.replace(self.tower, kept_ratio=ratio)
    return dataclasses.replace(self, tower=tower)

  def blocks(self, num_frames: int) -> list[int]:
    """Placeholders behind each image marker of a prompt: one per frame."""
    return [self.tokens_per_frame] * num_frames


def decoder_config(hf: dict) -> DecoderConfig:
  """The decoder a published language-model config describes.

  `hf` is the content of a `config.json`. Raises ValueError naming the field
  for a model_type, activation or RoPE scaling that we do not compute.
  """
  fields = families.decoder_fields(hf)
  scaling = fields.pop("rope_scaling")
  if scaling is not None:
    scaling = RopeScaling(**scaling)
  return DecoderConfig(rope_scaling=scaling, **fields)


_LAYOUTS = {
  "clip_vision_model": "clip",
  "siglip_vision_model": "siglip",
  "dinov2": "dinov2",
}


def tower_config(
  hf: dict, *, feature_layer: int, pixels: dict | None = None
) -> TowerConfig:
  """The tower a published vision config describes.

  `feature_layer` is the hidden state that is tapped, counted as in a list of
  layers + 1 states (-2: all layers but the last). `pixels` is the content of
  a `preprocessor_config.json`. `kept_ratio` in `hf` is our own addition: the
  published files leave the ratio of token merging to the caller. So is
  `merge_layers`, which a tower saved up to its tap needs.
  """
  kind = hf["model_type"]
  if kind not in _LAYOUTS:
    raise ValueError(f"tower {kind!r} is not one of {', '.join(_LAYOUTS)}")
  c = {**DEFAULTS[kind], **hf}
  if c.get("use_swiglu_ffn"):
    raise ValueError("use_swiglu_ffn: a gated DINOv2 MLP is not supported")
  layers, width = c["num_hidden_layers"], c["hidden_size"]
  mean, std = PIXELS[kind]
  if pixels:
    mean, std = tuple(pixels["image_mean"]), tuple(pixels["image_std"])
  return TowerConfig(
    layout=_LAYOUTS[kind],
    image_size=c.get("feed_size") or c["image_size"],
    table_size=c["image_size"],
    patch=c["patch_size"],
    width=width,
    layers=c.get("merge_layers") or layers,
    tap=feature_layer % (layers + 1),
    heads=c["num_attention_heads"],
    mlp_width=c.get("intermediate_size") or width * c["mlp_ratio"],
    activation=families.activation(c),
    norm_eps=c["layer_norm_eps"],
    embed_norm_eps=c["layer_norm_eps"],
    class_token=kind != "siglip_vision_model",
    layer_scale=kind == "dinov2",
    final_norm=kind == "dinov2" and feature_layer == -1,
    mean=mean,
    std=std,
    kept_ratio=c.get("kept_ratio", 1.0),
  )


def captioner_config(source: str | pathlib.Path | dict) -> CaptionerConfig:
  """The captioner of a checkpoint folder, or of its configs as one dict.

  A dict is either a language model's `config.json` or, for the AuroraCap
  layout, {"llm": ..., "visual_encoder": ..., "projector": ...} with the
  content of the three folders' `config.json`.
  """
  c = source if isinstance(source, dict) else read_folder(source)
  if "visual_encoder" not in c:
    return CaptionerConfig(decoder_config(c.get("llm", c)))
  vision = c["visual_encoder"]
  tower = tower_config(
    vision,
    feature_layer=vision.get("feature_layer", -2),
    pixels=c.get("preprocessor"),
  )
  if tower.layout == "clip":  # AuroraCap's layers ignore the file's epsilon
    tower = dataclasses.replace(tower, norm_eps=1e-5)
  _check_projector(c["projector"])
  return CaptionerConfig(decoder_config(c["llm"]), tower, "mlp2x_gelu")


def _check_projector(hf: dict) -> None:
  wanted = dict(depth=2, hidden_act="gelu", bias=True)
  for key, value in wanted.items():
    if hf.get(key, value) != value:
      raise ValueError(f"projector {key} {hf[key]!r}: only {value!r} is known")


def read_folder(folder: str | pathlib.Path) -> dict:
  """The configs of a checkpoint folder, as `captioner_config` takes them."""
  folder = pathlib.Path(folder)
  if not (folder / "config.json").exists():
    raise FileNotFoundError(f"{folder}/config.json: no such file")
  c = {"llm": json.loads((folder / "config.json").read_text())}
  files = {
    "visual_encoder": "visual_encoder/config.json",
    "preprocessor": "visual_encoder/preprocessor_config.json",
    "projector": "projector/config.json",
  }
  for key, name in files.items():
    if (folder / name).exists():
      c[key] = json.loads((folder / name).read_text())
  return c
