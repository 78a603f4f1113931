"""How each family of vision towers writes its config."""

import math

from synpo_jax.weights.config_defaults import DEFAULTS, PIXELS
from synpo_jax.weights.decoder_configs import activation

# Pixels on a side of a token, by which the processors' own limits are counted.
PROCESSED = {
  "qwen2_vl_vision": 28,
  "qwen2_5_vl_vision": 28,
  "qwen3_vl_vision": 32,
}

LAYOUTS = {
  "clip_vision_model": "clip",
  "siglip_vision_model": "siglip",
  "dinov2": "dinov2",
}


def vit_fields(hf: dict, feature_layer: int, pixels: dict | None) -> dict:
  """`TowerConfig`'s arguments; see `config.tower_config`."""
  kind = hf.get("model_type")
  if kind not in LAYOUTS:
    raise ValueError(f"tower {kind!r} is not one of {', '.join(LAYOUTS)}")
  c = {**DEFAULTS[kind], **hf}
  if c.get("use_swiglu_ffn"):
    raise ValueError("use_swiglu_ffn: a gated DINOv2 MLP is not supported")
  layers, width = c["num_hidden_layers"], c["hidden_size"]
  if feature_layer % (layers + 1) == 0 or abs(feature_layer) > layers:
    raise ValueError(
      f"vision_feature_layer {feature_layer}: the tower has {layers} layers"
    )
  return dict(
    layout=LAYOUTS[kind],
    image_size=c.get("feed_size") or c["image_size"],
    table_size=c["image_size"],
    patch=c["patch_size"],
    width=width,
    layers=c.get("merge_layers") or layers,
    tap=feature_layer % (layers + 1),
    heads=c["num_attention_heads"],
    mlp_width=c.get("intermediate_size") or width * c["mlp_ratio"],
    activation=activation(c),
    norm_eps=c["layer_norm_eps"],
    embed_norm_eps=c["layer_norm_eps"],
    class_token=kind != "siglip_vision_model",
    layer_scale=kind == "dinov2",
    final_norm=c.get("final_norm", kind == "dinov2" and feature_layer == -1),
    kept_ratio=c.get("kept_ratio", 1.0),
    **_pixels(kind, pixels),
  )


def window_fields(hf: dict, pixels: dict | None) -> dict:
  """`WindowTowerConfig`'s arguments from a Qwen-VL `vision_config`.

  hf: its `model_type` is a key of WINDOWS.
  """
  kind = hf["model_type"]
  c = {**DEFAULTS[kind], **hf}
  return dict(
    layout=kind.removesuffix("_vision"),
    image_size=c["feed_size"],
    patch=c["patch_size"],
    frames=c["temporal_patch_size"],
    merge=c["spatial_merge_size"],
    layers=c["depth"],
    heads=c["num_heads"],
    norm_eps=1e-6,
    **WINDOWS[kind](c),
    **_limits(kind, pixels),
    **_pixels(kind, pixels),
  )


def _limits(kind: str, pixels: dict | None) -> dict:
  """Pixels of a frame, or of a video, as the video processor bounds them."""
  given = pixels or {}
  size = given.get("size") or {}
  least = given.get("min_pixels") or size.get("shortest_edge")
  most = given.get("max_pixels") or size.get("longest_edge")
  own = PROCESSED[kind] ** 2  # what a token is of, in the published sizes
  return dict(
    least=least or 128 * own,
    most=most or 768 * own,
    whole=kind == "qwen3_vl_vision",
  )


def _qwen2_vl(c: dict) -> dict:
  """Its `hidden_size` is what the connector makes."""
  _check_activation(c, "quick_gelu")
  return dict(
    width=c["embed_dim"],
    mlp_width=int(c["embed_dim"] * c["mlp_ratio"]),
    **_sees_all(c),
    activation="quick_gelu",
    layer_norms=True,
    patch_bias=False,
  )


def _sees_all(c: dict) -> dict:
  """Every layer sees all of a step, so windows are as small as they may be."""
  layers = tuple(range(c["depth"]))
  return dict(window=c["spatial_merge_size"], full_layers=layers)


def _qwen2_5_vl(c: dict) -> dict:
  _check_activation(c, "silu")
  patch, merge = c["patch_size"], c["spatial_merge_size"]
  return dict(
    width=c["hidden_size"],
    mlp_width=c["intermediate_size"],
    window=c["window_size"] // merge // patch * merge,
    full_layers=tuple(c["fullatt_block_indexes"]),
    activation="silu",
    layer_norms=False,
    patch_bias=False,
  )


def _qwen3_vl(c: dict) -> dict:
  _check_activation(c, "gelu_pytorch_tanh")
  table, deep = c["num_position_embeddings"], c["deepstack_visual_indexes"]
  if math.isqrt(table) ** 2 != table:
    raise ValueError(f"num_position_embeddings {table}: no square")
  if list(deep) != sorted({*deep} & {*range(c["depth"])}):
    raise ValueError(
      f"deepstack_visual_indexes {list(deep)}: give some of {c['depth']} "
      "layers, from 0, in their order"
    )
  return dict(
    width=c["hidden_size"],
    mlp_width=c["intermediate_size"],
    **_sees_all(c),
    activation="gelu_tanh",
    layer_norms=True,
    patch_bias=True,
    table=math.isqrt(table),
    deep=tuple(deep),
  )


WINDOWS = {
  "qwen2_vl_vision": _qwen2_vl,
  "qwen2_5_vl_vision": _qwen2_5_vl,
  "qwen3_vl_vision": _qwen3_vl,
}


def _check_activation(c: dict, known: str) -> None:
  if c["hidden_act"] != known:
    raise ValueError(f"hidden_act {c['hidden_act']!r}: only {known!r} is known")


def _pixels(kind: str, pixels: dict | None) -> dict:
  """Mean and deviation: the preprocessor's, else the family's."""
  mean, std = PIXELS[kind]
  given = pixels or {}
  for key in ("do_rescale", "do_normalize"):
    if given.get(key, True) is False:
      raise ValueError(f"preprocessor's {key}=false is not supported")
  mean, std = (
    given.get("image_mean") or mean,
    given.get("image_std") or std,
  )
  return dict(mean=tuple(mean), std=tuple(std))
