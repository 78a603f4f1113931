"""How each family of vision towers writes its config."""

from synpo_jax.weights.config_defaults import DEFAULTS, PIXELS
from synpo_jax.weights.decoder_configs import activation

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
  """`WindowTowerConfig`'s arguments from a Qwen2.5-VL `vision_config`."""
  c = {**DEFAULTS["qwen2_5_vl_vision"], **hf}
  if c["hidden_act"] != "silu":
    raise ValueError(f"hidden_act {c['hidden_act']!r}: only 'silu' is known")
  patch, merge = c["patch_size"], c["spatial_merge_size"]
  return dict(
    image_size=c["feed_size"],
    patch=patch,
    frames=c["temporal_patch_size"],
    merge=merge,
    window=c["window_size"] // merge // patch * merge,
    full_layers=tuple(c["fullatt_block_indexes"]),
    width=c["hidden_size"],
    layers=c["depth"],
    heads=c["num_heads"],
    mlp_width=c["intermediate_size"],
    norm_eps=1e-6,
    **_pixels("qwen2_5_vl_vision", pixels),
  )


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
