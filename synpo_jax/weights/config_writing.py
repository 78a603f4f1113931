"""A config of ours as the `config.json` files other programs read."""

import math

from synpo_jax.models.config import CaptionerConfig, DecoderConfig, RopeScaling
from synpo_jax.models.tower_config import TowerConfig, WindowTowerConfig
from synpo_jax.weights.config_defaults import ACTIVATIONS
from synpo_jax.weights.multimodal_configs import LLAVA_VIDEO

ARCHITECTURES = {
  "llama": "LlamaForCausalLM",
  "mistral": "MistralForCausalLM",
  "qwen2": "Qwen2ForCausalLM",
  "qwen2_vl_text": "Qwen2VLTextModel",
  "qwen2_5_vl_text": "Qwen2_5_VLTextModel",
  "llava": "LlavaForConditionalGeneration",
  "llava_next_video": "LlavaNextVideoForConditionalGeneration",
  "llava_onevision": "LlavaOnevisionForConditionalGeneration",
  "qwen2_vl": "Qwen2VLForConditionalGeneration",
  "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
  "qwen3_vl_text": "Qwen3VLTextModel",
  "qwen3_vl": "Qwen3VLForConditionalGeneration",
  "gemma2": "Gemma2ForCausalLM",
  "gemma3_text": "Gemma3ForCausalLM",
  "clip": "CLIPVisionModel",
  "siglip": "SiglipVisionModel",
  "dinov2": "Dinov2Model",
}
_ACTIVATION_NAMES = {ours: theirs for theirs, ours in ACTIVATIONS.items()}


def config_files(config: CaptionerConfig) -> dict[str, dict]:
  """{file name: content} of a folder in the layout of the config's family."""
  files = {"config.json": decoder_json(config.decoder)}
  if config.tower is None:
    return files
  pixels = {
    "image_mean": list(config.tower.mean),
    "image_std": list(config.tower.std),
  }
  if isinstance(config.tower, WindowTowerConfig):
    limits = config.tower.least, config.tower.most
    edges = ("shortest_edge", "longest_edge")
    pixels["size"] = dict(zip(edges, limits, strict=True))
  if config.connector.family != "auroracap":
    whole = multimodal_json(config)
    return {"config.json": whole, "preprocessor_config.json": pixels}
  files["visual_encoder/config.json"] = tower_json(config.tower)
  files["visual_encoder/preprocessor_config.json"] = pixels
  files["projector/config.json"] = {
    "visual_hidden_size": config.tower.width,
    "llm_hidden_size": config.decoder.width,
    "depth": 2,
    "hidden_act": "gelu",
    "bias": True,
  }
  return files


def decoder_json(c: DecoderConfig) -> dict:
  """What `config.decoder_config` reads back into `c`."""
  activation = _ACTIVATION_NAMES[c.activation]
  out = dict(
    model_type=c.family,
    architectures=[ARCHITECTURES[c.family]],
    vocab_size=c.vocab,
    hidden_size=c.width,
    intermediate_size=c.mlp_width,
    num_hidden_layers=c.layers,
    num_attention_heads=c.heads,
    num_key_value_heads=c.kv_heads,
    head_dim=c.head_dim,
    hidden_act=activation,
    rms_norm_eps=c.norm_eps,
    rope_theta=c.rope_theta,
    rope_scaling=_scaling_json(c.rope_scaling),
    tie_word_embeddings=c.tied,
    attention_bias=c.qkv_bias,
    mlp_bias=c.mlp_bias,
    sliding_window=c.window,
    use_sliding_window=any(c.sliding),
  )
  if c.sliding:
    kinds = {True: "sliding_attention", False: "full_attention"}
    out["layer_types"] = [kinds[slides] for slides in c.sliding]
  if c.family.startswith("gemma"):
    out |= dict(
      hidden_activation=activation,
      attn_logit_softcapping=c.attn_softcap,
      final_logit_softcapping=c.final_softcap,
      query_pre_attn_scalar=_whole(c.query_scale**-2),
    )
  if c.mrope_sections:
    sections = list(c.mrope_sections)
    out["rope_scaling"] = dict(type="mrope", mrope_section=sections)
  if c.mrope_interleaved:
    out["rope_scaling"] |= dict(rope_type="default", mrope_interleaved=True)
  if c.rope_local_theta is not None:
    out["rope_local_base_freq"] = c.rope_local_theta
  return out


def _whole(x: float) -> float | int:
  """x, an integer where only rounding keeps it from being one."""
  return round(x) if math.isclose(x, round(x), rel_tol=1e-9) else x


def _scaling_json(s: RopeScaling | None) -> dict | None:
  if s is None:
    return None
  out = dict(rope_type=s.kind, type=s.kind, factor=s.factor)
  if s.kind == "llama3":
    out |= dict(
      low_freq_factor=s.low_freq_factor,
      high_freq_factor=s.high_freq_factor,
      original_max_position_embeddings=s.original_length,
    )
  return out


def tower_json(c: TowerConfig) -> dict:
  """A tower that ends at its tap, in the published format and with our own
  keys `feature_layer`, `feed_size`, `final_norm`, `kept_ratio` and
  `merge_layers`."""
  kinds = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
  out = dict(
    model_type=kinds.get(c.layout, c.layout),
    architectures=[ARCHITECTURES[c.layout]],
    hidden_size=c.width,
    num_hidden_layers=c.tap,
    num_attention_heads=c.heads,
    image_size=c.table_size,
    patch_size=c.patch,
    hidden_act=_ACTIVATION_NAMES[c.activation],
    layer_norm_eps=c.embed_norm_eps,
    feature_layer=-1,
    feed_size=c.image_size,
    final_norm=c.final_norm,
    kept_ratio=c.kept_ratio,
    merge_layers=c.layers,
  )
  if c.layout == "dinov2":
    return out | dict(mlp_ratio=c.mlp_width // c.width)
  return out | dict(intermediate_size=c.mlp_width)


def multimodal_json(config: CaptionerConfig) -> dict:
  """The one `config.json` of a video language model."""
  connector = config.connector
  if connector.family == "llava_video":
    out = decoder_json(config.decoder) | LLAVA_VIDEO | dict(connector.ids)
    return out | dict(
      model_type="llava", vision_config=tower_json(config.tower)
    )
  out = dict(
    model_type=connector.family,
    architectures=[ARCHITECTURES[connector.family]],
    text_config=decoder_json(config.decoder),
    tie_word_embeddings=config.decoder.tied,
    **dict(connector.ids),
  )
  if isinstance(config.tower, WindowTowerConfig):
    vision = window_tower_json(config.tower, config.decoder.width)
    if connector.family != "qwen2_5_vl":
      return out | dict(vision_config=vision)
    vision["tokens_per_second"] = connector.positions_per_second
    pace = connector.seconds_per_step
    return out | dict(vision_config=vision, seconds_per_step=pace)
  out |= dict(vision_config=tower_json(config.tower), vision_feature_layer=-1)
  has_class_token = config.tower.class_token
  select = "default" if has_class_token else "full"
  out["vision_feature_select_strategy"] = select
  if connector.pool == "average":
    out["spatial_pool_stride"] = connector.stride
  return out


def window_tower_json(c: WindowTowerConfig, width: int) -> dict:
  """A Qwen-VL `vision_config`; `feed_size` is our own key.

  width: of the decoder.
  """
  out = dict(
    model_type=c.layout,
    depth=c.layers,
    num_heads=c.heads,
    patch_size=c.patch,
    spatial_merge_size=c.merge,
    temporal_patch_size=c.frames,
    hidden_act=_ACTIVATION_NAMES[c.activation],
    feed_size=c.image_size,
  )
  if c.layout == "qwen2_vl":
    ratio = c.mlp_width / c.width
    return out | dict(hidden_size=width, embed_dim=c.width, mlp_ratio=ratio)
  out |= dict(hidden_size=c.width, intermediate_size=c.mlp_width)
  out["out_hidden_size"] = width
  if c.layout == "qwen3_vl":
    return out | dict(
      num_position_embeddings=c.table**2,
      deepstack_visual_indexes=list(c.deep),
    )
  return out | dict(
    window_size=c.window * c.patch,
    fullatt_block_indexes=list(c.full_layers),
  )
