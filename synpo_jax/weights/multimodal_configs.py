"""How each family of video language models writes its `config.json`.

The vision and language parts are described by nested configs; what joins
them stands at the top. Only the way videos are read is computed: the tiled
high-resolution images of the LLaVA family are not.
"""

from typing import NamedTuple

from synpo_jax.weights.config_defaults import DEFAULTS

TOKEN_IDS = (
  "image_token_index",
  "video_token_index",
  "image_token_id",
  "video_token_id",
  "vision_start_token_id",
  "vision_end_token_id",
)


class Parts(NamedTuple):
  """text, vision: the nested configs, complete with `model_type`.

  feature_layer: the tower's hidden state that is tapped. connector:
  `ConnectorConfig`'s arguments.
  """

  text: dict
  vision: dict
  feature_layer: int
  connector: dict


def parts(hf: dict) -> Parts:
  """The parts of a published config of one of `FAMILIES`.

  Raises ValueError naming a field with a value that we do not compute.
  """
  family = family_of(hf)
  c = {**DEFAULTS[family], **_said(hf)}
  ids = tuple((key, c[key]) for key in TOKEN_IDS if key in c)
  connector = dict(family=family, ids=ids, **FAMILIES[family](c))
  if family in QWEN:
    vision = {**c["vision_config"], "model_type": f"{family}_vision"}
    return Parts(_tied(hf, _qwen_text(hf)), vision, -1, connector)
  if family == "llava_video":
    return Parts(
      {**hf, "model_type": "qwen2"}, c["vision_config"], -1, connector
    )
  kinds = {
    key: {"model_type": DEFAULTS[family][key]["model_type"]}
    for key in ("text_config", "vision_config")
  }
  text = {**kinds["text_config"], **c["text_config"]}
  vision = {**kinds["vision_config"], **c["vision_config"]}
  _check_llava(c, vision)
  return Parts(_tied(hf, text), vision, c["vision_feature_layer"], connector)


def family_of(hf: dict) -> str | None:
  """Its `model_type`, but for LLaVA-Video's own folder, which says `llava`."""
  return "llava_video" if "mm_vision_tower" in hf else hf.get("model_type")


def _said(hf: dict) -> dict:
  """`hf` without nested configs that are null, which mean the defaults."""
  nested = ("text_config", "vision_config")
  return {k: v for k, v in hf.items() if k not in nested or v is not None}


def _tied(hf: dict, text: dict) -> dict:
  """`text` with the outer word on whether the head is the embedding table.

  Transformers 5 goes by it; before, it was a default that said nothing.
  """
  major = str(hf.get("transformers_version")).partition(".")[0]
  newer = major.isdigit() and int(major) >= 5
  if newer and hf.get("tie_word_embeddings"):
    return {**text, "tie_word_embeddings": True}
  return text


def _check_llava(c: dict, vision: dict) -> None:
  has_class_token = vision["model_type"] != "siglip_vision_model"
  wanted = dict(
    projector_hidden_act="gelu",
    multimodal_projector_bias=True,
    vision_feature_select_strategy="default" if has_class_token else "full",
  )
  for key, value in wanted.items():
    if c[key] != value:
      raise ValueError(f"{key} {c[key]!r}: only {value!r} is known")
  if not isinstance(c["vision_feature_layer"], int):
    layers = c["vision_feature_layer"]
    raise ValueError(f"vision_feature_layer {layers}: only one layer is known")


def _llava(c: dict) -> dict:
  return {}


def _llava_next_video(c: dict) -> dict:
  mode = c["spatial_pool_mode"]
  if mode != "average":
    raise ValueError(f"spatial_pool_mode {mode!r}: only 'average' is known")
  return dict(pool="average", stride=c["spatial_pool_stride"], one_block=True)


def _llava_onevision(c: dict) -> dict:
  return dict(pool="bilinear", stride=2, newline=True, one_block=True)


# What LLaVA-Video's own config says, as far as we compute it.
LLAVA_VIDEO = dict(
  architectures=["LlavaQwenForCausalLM"],
  mm_vision_tower="google/siglip-so400m-patch14-384",
  mm_projector_type="mlp2x_gelu",
  mm_patch_merge_type="spatial_unpad",
  mm_newline_position="grid",
  mm_spatial_pool_mode="bilinear",
  mm_spatial_pool_stride=2,
  mm_vision_select_layer=-2,
  mm_vision_select_feature="patch",
  add_faster_video=False,
)


def _llava_video(c: dict) -> dict:
  """Its tower drops the last layer; no size of it is in the file."""
  for key, value in LLAVA_VIDEO.items():
    if c.get(key, value) != value:
      raise ValueError(f"{key} {c[key]!r}: only {value!r} is known")
  return dict(pool="bilinear", stride=2, row_newline=True, one_block=True)


def _qwen2_vl(c: dict) -> dict:
  """A step is one position of time, however long it takes."""
  return dict(one_block=True)


def _qwen2_5_vl(c: dict) -> dict:
  """`seconds_per_step` is our own key: the time that two frames span."""
  vision = {**DEFAULTS["qwen2_5_vl_vision"], **c["vision_config"]}
  return dict(
    one_block=True,
    positions_per_second=vision["tokens_per_second"],
    seconds_per_step=float(c["seconds_per_step"]),
  )


def _qwen3_vl(c: dict) -> dict:
  """Every step has a block of its own, behind its time in words."""
  return dict(stamped=True)


QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
FAMILIES = {
  "llava": _llava,
  "llava_next_video": _llava_next_video,
  "llava_onevision": _llava_onevision,
  "llava_video": _llava_video,
  "qwen2_vl": _qwen2_vl,
  "qwen2_5_vl": _qwen2_5_vl,
  "qwen3_vl": _qwen3_vl,
}


def _qwen_text(hf: dict) -> dict:
  """The language config: nested, or spread over the top level."""
  spread = {k: v for k, v in hf.items() if k != "vision_config"}
  text = hf.get("text_config") or spread
  return {**text, "model_type": f"{hf['model_type']}_text"}
