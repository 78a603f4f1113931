"""Published tensor names <-> places in our tree; what all who need them ask.

How a single array is published is said in `tensor_kinds`; the parts that only
Qwen-VL has are named in `qwen_names`.
"""

import re

from synpo_jax.models.config import CaptionerConfig, DecoderConfig
from synpo_jax.models.tower_config import TowerConfig
from synpo_jax.weights import qwen_names, tensor_kinds
from synpo_jax.weights.tensor_kinds import Leaf

UNWRAPPED = ("auroracap", "llava_video")  # Transformers has no class for them
LANGUAGE = "model.language_model."  # as Transformers' classes name it


def leaves(config: CaptionerConfig) -> list[Leaf]:
  """Every array of the model's `params`."""
  family = config.connector.family if config.connector else None
  if family is None or family == "auroracap":
    arrays = decoder_leaves(config.decoder, "model.", "lm_head")
    return arrays + (_auroracap(config) if family else [])
  if family in qwen_names.SECOND:
    arrays = decoder_leaves(config.decoder, "model.", "lm_head")
    return arrays + qwen_names.SECOND[family](config)
  if family == "qwen3_vl":
    arrays = decoder_leaves(config.decoder, LANGUAGE, "lm_head")
    return arrays + qwen_names.qwen3_vl(config)
  if family == "llava_video":
    return _llava_video(config)
  return _llava(config)


def _auroracap(c: CaptionerConfig) -> list[Leaf]:
  """Tower and projector in folders of their own."""
  arrays = tower_leaves(c.tower, "visual_encoder")
  for name, number in (("fc0", 0), ("fc1", 2)):
    stem = f"model.{number}"
    arrays += tensor_kinds.linear(f"projector/{name}", "projector", stem, True)
  return arrays


def _llava(c: CaptionerConfig) -> list[Leaf]:
  """All parts in one folder, each behind a prefix."""
  prefix = "language_model."
  arrays = decoder_leaves(c.decoder, prefix + "model.", prefix + "lm_head")
  arrays += tower_leaves(c.tower, "", "vision_tower.")
  for name, number in (("fc0", 1), ("fc1", 2)):
    stem = f"multi_modal_projector.linear_{number}"
    arrays += tensor_kinds.linear(f"projector/{name}", "", stem, True)
  if c.connector.newline:
    arrays.append(
      tensor_kinds.single("projector/newline", "", "image_newline", "raw")
    )
  return arrays


def _llava_video(c: CaptionerConfig) -> list[Leaf]:
  """All parts within the language model's, as lmms-lab publishes them."""
  arrays = decoder_leaves(c.decoder, "model.", "lm_head")
  arrays += tower_leaves(c.tower, "", "model.vision_tower.vision_tower.")
  for name, number in (("fc0", 0), ("fc1", 2)):
    stem = f"model.mm_projector.{number}"
    arrays += tensor_kinds.linear(f"projector/{name}", "", stem, True)
  stem = "model.image_newline"
  return arrays + [tensor_kinds.single("projector/newline", "", stem, "raw")]


def decoder_leaves(c: DecoderConfig, prefix: str, head: str) -> list[Leaf]:
  """A decoder published as `prefix`embed_tokens ..., with its head."""
  arrays = [
    tensor_kinds.single(
      "decoder/embed/embedding", "", prefix + "embed_tokens", "embedding"
    ),
    tensor_kinds.single("decoder/norm/scale", "", prefix + "norm", "rms"),
  ]
  if not c.tied:
    arrays += tensor_kinds.linear("decoder/head", "", head, False)
  layer, deep = prefix + "layers.{}.", c.layers
  for name, biased in (
    ("q", c.qkv_bias),
    ("k", c.qkv_bias),
    ("v", c.qkv_bias),
    ("o", c.o_bias),
  ):
    stem = f"{layer}self_attn.{name}_proj"
    arrays += tensor_kinds.linear(
      f"decoder/layers/attn/{name}", "", stem, biased, deep
    )
  for name in ("gate", "up", "down"):
    stem = f"{layer}mlp.{name}_proj"
    arrays += tensor_kinds.linear(
      f"decoder/layers/mlp/{name}", "", stem, c.mlp_bias, deep
    )
  for ours, theirs in _decoder_norms(c).items():
    path = f"decoder/layers/{ours}/scale"
    arrays.append(tensor_kinds.stack(path, "", layer + theirs, "rms", deep))
  return arrays


def _decoder_norms(c: DecoderConfig) -> dict[str, str]:
  norms = {
    "attn_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
  }
  if c.post_norms:
    norms["attn_post_norm"] = "post_attention_layernorm"
    norms["mlp_norm"] = "pre_feedforward_layernorm"
    norms["mlp_post_norm"] = "post_feedforward_layernorm"
  if c.qk_norm:
    norms |= {f"attn/{n}_norm": f"self_attn.{n}_norm" for n in "qk"}
  return norms


def tower_leaves(c: TowerConfig, part: str, prefix: str = "") -> list[Leaf]:
  """A tower's arrays; layers above the tap have none."""
  names = _dinov2 if c.layout == "dinov2" else _clip
  return names(c, part, prefix)


def _clip(c: TowerConfig, part: str, prefix: str) -> list[Leaf]:
  """CLIP's names, which SigLIP shares."""
  root = prefix + "vision_model."
  table, patch = "embeddings.position_embedding", "embeddings.patch_embedding"
  arrays = [
    tensor_kinds.single("tower/positions", part, root + table, "embedding"),
    tensor_kinds.single("tower/patch/kernel", part, root + patch, "conv"),
  ]
  if c.layout == "siglip":
    arrays.append(
      tensor_kinds.single("tower/patch/bias", part, root + patch, "bias")
    )
  if c.class_token:
    stem = root + "embeddings.class_embedding"
    arrays.append(tensor_kinds.single("tower/class_token", part, stem, "raw"))
  if c.layout == "clip":
    arrays += tensor_kinds.norm("tower/embed_norm", part, root + "pre_layrnorm")
  if c.final_norm:
    arrays += tensor_kinds.norm("tower/norm", part, root + "post_layernorm")
  places = {
    "attn/q": "self_attn.q_proj",
    "attn/k": "self_attn.k_proj",
    "attn/v": "self_attn.v_proj",
    "attn/o": "self_attn.out_proj",
    "mlp/up": "mlp.fc1",
    "mlp/down": "mlp.fc2",
  }
  norms = {"attn_norm": "layer_norm1", "mlp_norm": "layer_norm2"}
  stem = root + "encoder.layers.{}."
  return arrays + _tower_layers(c, part, stem, places, norms)


def _dinov2(c: TowerConfig, part: str, prefix: str) -> list[Leaf]:
  root = prefix + "embeddings."
  patch, table = root + "patch_embeddings.projection", "position_embeddings"
  arrays = [
    tensor_kinds.single("tower/class_token", part, root + "cls_token", "token"),
    tensor_kinds.single("tower/positions", part, root + table, "table"),
    tensor_kinds.single("tower/patch/kernel", part, patch, "conv"),
    tensor_kinds.single("tower/patch/bias", part, patch, "bias"),
  ]
  if c.final_norm:
    arrays += tensor_kinds.norm("tower/norm", part, prefix + "layernorm")
  places = {
    "attn/q": "attention.attention.query",
    "attn/k": "attention.attention.key",
    "attn/v": "attention.attention.value",
    "attn/o": "attention.output.dense",
    "mlp/up": "mlp.fc1",
    "mlp/down": "mlp.fc2",
  }
  norms = {"attn_norm": "norm1", "mlp_norm": "norm2"}
  stem = prefix + "encoder.layer.{}."
  arrays += _tower_layers(c, part, stem, places, norms)
  for ours, theirs in (("attn_scale", "1"), ("mlp_scale", "2")):
    name = f"{stem}layer_scale{theirs}.lambda1"
    arrays.append(
      tensor_kinds.stack(f"tower/layers/{ours}", part, name, "raw", c.tap)
    )
  return arrays


def _tower_layers(c, part, stem, places, norms) -> list[Leaf]:
  arrays = []
  for ours, theirs in places.items():
    path = f"tower/layers/{ours}"
    arrays += tensor_kinds.linear(path, part, stem + theirs, True, c.tap)
  for ours, theirs in norms.items():
    arrays += tensor_kinds.norm(
      f"tower/layers/{ours}", part, stem + theirs, c.tap
    )
  return arrays


HEAD = r"(language_model\.)?lm_head\.weight"

# Published tensors that a model may carry and that are never computed with.
UNUSED = (
  r".*rotary_emb\.inv_freq",
  r".*position_ids",
  r".*pos_emb",  # an alias of the position table
  r".*mask_token",
  r"(model\.)?(vision_tower\.)*vision_model\.(post_layernorm|head)\..*",
  r"image_newline",  # LLaVA-NeXT-Video's, for still images
  r"(vision_tower\.)?layernorm\..*",  # DINOv2's last, behind the tap
  r"pooler\..*",
)


def above_tap(config: CaptionerConfig) -> str:
  """A pattern for the names of tower layers that never run."""
  tower = config.tower
  if not isinstance(tower, TowerConfig) or tower.tap == tower.layers:
    return r"(?!)"
  numbers = "|".join(str(i) for i in range(tower.tap, tower.layers))
  return rf"(\w+\.)*encoder\.layers?\.({numbers})\..*"


def tied(name: str, config: CaptionerConfig) -> str:
  """The embeddings' name, for a head that the config ties to them."""
  if not (config.decoder.tied and re.fullmatch(HEAD, name)):
    return name
  path = "decoder/embed/embedding"
  return next(x.names(False)[0] for x in leaves(config) if x.path == path)


_VISION = "vision_model."

# How newer libraries name what published files hold: a start, its stead.
_NEWER_QWEN = (
  (r"model\.visual\.", "visual."),
  (r"model\.language_model\.", "model."),
)
_NEWER = {
  "auroracap": (
    (r"(?=(embeddings|pre_layrnorm|encoder|post_layernorm|head)\.)", _VISION),
  ),
  "llava_video": (),
  "qwen3_vl": (),
  "qwen2_vl": _NEWER_QWEN,
  "qwen2_5_vl": _NEWER_QWEN,
}
_NEWER_LLAVA = (
  (r"model\.(?=(vision_tower|multi_modal_projector|image_newline)\b)", ""),
  (rf"vision_tower\.(?!{re.escape(_VISION)})", f"vision_tower.{_VISION}"),
  (r"model\.language_model\.", "language_model.model."),
  (r"lm_head\.", "language_model.lm_head."),
)


def published(name: str, config: CaptionerConfig) -> str:
  """The name a tensor has in published files, which `leaves` speaks."""
  if config.connector is None:
    return name
  is_dino = getattr(config.tower, "layout", "") == "dinov2"
  for start, stead in _NEWER.get(config.connector.family, _NEWER_LLAVA):
    if not (is_dino and _VISION in stead):  # DINOv2 never had this part
      name = re.sub(f"^{start}", stead, name)
  return name


def module(stem: str, config: CaptionerConfig) -> str:
  """The name that Transformers' classes give a module.

  stem: its name in published files, without the tensor's own end.
  """
  if config.connector is None or config.connector.family in UNWRAPPED:
    return stem
  if config.connector.family == "qwen3_vl":
    return stem
  is_qwen = config.connector.family in qwen_names.SECOND
  start = "model." if is_qwen else "language_model.model."
  if not stem.startswith(start):  # the tower's and the connector's
    return f"model.{stem}"
  return re.sub(rf"^{re.escape(start)}", LANGUAGE, stem)
