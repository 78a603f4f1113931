"""A tiny random checkpoint of every family of video models, with its words."""

import json

import jax
import jax.numpy as jnp

from synpo_jax.models import initial
from synpo_jax.models.captioner import Captioner
from synpo_jax.weights import folders
from synpo_jax.weights.config_reading import captioner_config
from tests.support import tokenizers_made

TEXT = dict(
  vocab_size=261,  # of the tokenizer
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
)
LLAMA, QWEN2 = dict(TEXT, model_type="llama"), dict(TEXT, model_type="qwen2")
CLIP = dict(
  model_type="clip_vision_model",
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=3,
  num_attention_heads=2,
  patch_size=8,
  image_size=32,
)
MROPE = dict(rope_scaling=dict(type="mrope", mrope_section=[1, 1, 2]))
QWEN_TOWER = dict(
  depth=2,
  num_heads=2,
  hidden_size=32,
  out_hidden_size=32,
  intermediate_size=48,
  patch_size=4,
  feed_size=32,
)
ARCHITECTURES = {
  "auroracap": dict(llm=LLAMA, visual_encoder=CLIP, projector=dict(depth=2)),
  "llava": dict(model_type="llava", text_config=LLAMA, vision_config=CLIP),
  "llava_next_video": dict(
    model_type="llava_next_video", text_config=LLAMA, vision_config=CLIP
  ),
  "llava_onevision": dict(
    model_type="llava_onevision",
    text_config=QWEN2,
    vision_config=dict(CLIP, model_type="siglip_vision_model"),
  ),
  "llava_video": dict(
    QWEN2,
    model_type="llava",
    mm_vision_tower="google/siglip-so400m-patch14-384",
    vision_config=dict(CLIP, model_type="siglip_vision_model"),
  ),
  "qwen2_vl": dict(
    TEXT,
    **MROPE,
    model_type="qwen2_vl",
    vision_config=dict(QWEN_TOWER, embed_dim=32, mlp_ratio=1.5),
  ),
  "qwen2_5_vl": dict(
    TEXT,
    **MROPE,
    model_type="qwen2_5_vl",
    vision_config=dict(QWEN_TOWER, window_size=16, fullatt_block_indexes=[1]),
  ),
  "qwen3_vl": dict(
    model_type="qwen3_vl",
    text_config=dict(TEXT, **MROPE, head_dim=8),
    vision_config=dict(
      QWEN_TOWER, num_position_embeddings=9, deepstack_visual_indexes=[1]
    ),
  ),
}
TEMPLATES = {"qwen2_vl": "qwen_vl", "qwen2_5_vl": "qwen_vl"}
TEMPLATES["qwen3_vl"] = "qwen3_vl"


def template(family: str) -> str:
  """The chat format that a family is asked in."""
  return TEMPLATES.get(family, "tokenizer")


def write(family: str, folder) -> None:
  """Fills a folder as the family publishes its checkpoints."""
  config = captioner_config(ARCHITECTURES[family])
  params = initial.params(Captioner(config, dtype=jnp.dtype("float32")), 0)
  stirred = jax.tree.map(lambda x: x * 4 if x.ndim > 1 else x, params)
  folders.save(folder, config, stirred)
  tokenizers_made.chatml("<|im_end|>").save_pretrained(folder)


def write_json(path, content: dict) -> None:
  """Writes a config file."""
  path.write_text(json.dumps(content))
