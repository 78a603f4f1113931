"""Sizes of published models, as their own config files state them."""

import ml_collections

from configs import published_text as text
from synpo_jax.runtime import names


def arch(name):
  """The configs of `name`'s checkpoint folder, by folder."""
  names.refuse_unknown("model", name, ("tiny", "smol", *PUBLISHED))
  return ml_collections.ConfigDict(PUBLISHED[name])


CLIP_H_378 = dict(
  model_type="clip_vision_model",
  image_size=378,
  patch_size=14,
  hidden_size=1280,
  intermediate_size=5120,
  num_hidden_layers=32,
  num_attention_heads=16,
  hidden_act="quick_gelu",
  layer_norm_eps=1e-5,
)

CLIP_L_336 = dict(
  model_type="clip_vision_model",
  image_size=336,
  patch_size=14,
  hidden_size=1024,
  intermediate_size=4096,
  num_hidden_layers=24,
  num_attention_heads=16,
  hidden_act="quick_gelu",
  layer_norm_eps=1e-5,
)

SIGLIP_SO400M_384 = dict(
  model_type="siglip_vision_model",
  image_size=384,
  patch_size=14,
  hidden_size=1152,
  intermediate_size=4304,
  num_hidden_layers=26,
  num_attention_heads=16,
  hidden_act="gelu_pytorch_tanh",
  layer_norm_eps=1e-6,
)

VICUNA_LLAVA = dict(text.VICUNA_7B, vocab_size=32064, rope_scaling=None)

LLAVA_1_5_7B = dict(
  model_type="llava",
  text_config=VICUNA_LLAVA,
  vision_config=CLIP_L_336,
  vision_feature_layer=-2,
  vision_feature_select_strategy="default",
  projector_hidden_act="gelu",
  image_token_index=32000,
)

LLAVA_NEXT_VIDEO_7B = dict(
  LLAVA_1_5_7B,
  model_type="llava_next_video",
  spatial_pool_mode="average",
  spatial_pool_stride=2,
  image_token_index=32001,
  video_token_index=32000,
)

LLAVA_ONEVISION_7B = dict(
  model_type="llava_onevision",
  text_config=dict(text.QWEN_2_5_7B, vocab_size=152128),
  vision_config=SIGLIP_SO400M_384,
  vision_feature_layer=-1,
  vision_feature_select_strategy="full",
  projector_hidden_act="gelu",
  image_token_index=151646,
  video_token_index=151647,
)

LLAVA_VIDEO_7B = dict(  # of Qwen2-7B; the tower is known by its name alone
  text.QWEN_2_5_7B,
  model_type="llava",
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
  image_token_index=151646,
)

QWEN_2_VL_VISION = dict(
  model_type="qwen2_vl",
  depth=32,
  embed_dim=1280,
  hidden_size=3584,
  mlp_ratio=4,
  num_heads=16,
  hidden_act="quick_gelu",
  patch_size=14,
  spatial_merge_size=2,
  spatial_patch_size=14,
  temporal_patch_size=2,
)

QWEN_2_VL_7B = dict(
  text.QWEN_2_5_7B,
  model_type="qwen2_vl",
  rope_scaling=dict(type="mrope", mrope_section=[16, 24, 24]),
  vision_config=QWEN_2_VL_VISION,
  image_token_id=151655,
  video_token_id=151656,
  vision_start_token_id=151652,
  vision_end_token_id=151653,
)

QWEN_2_VL_2B = dict(
  QWEN_2_VL_7B,
  vocab_size=151936,
  hidden_size=1536,
  intermediate_size=8960,
  num_attention_heads=12,
  num_key_value_heads=2,
  vision_config=dict(QWEN_2_VL_VISION, hidden_size=1536),
  tie_word_embeddings=True,
)

QWEN_2_5_VL_VISION = dict(
  model_type="qwen2_5_vl_vision",
  depth=32,
  hidden_size=1280,
  intermediate_size=3420,
  num_heads=16,
  hidden_act="silu",
  out_hidden_size=3584,
  patch_size=14,
  spatial_merge_size=2,
  spatial_patch_size=14,
  temporal_patch_size=2,
  window_size=112,
  fullatt_block_indexes=[7, 15, 23, 31],
  tokens_per_second=2,
)

QWEN_2_5_VL_7B = dict(
  text.QWEN_2_5_7B,
  model_type="qwen2_5_vl",
  rope_scaling=dict(type="mrope", mrope_section=[16, 24, 24]),
  vision_config=QWEN_2_5_VL_VISION,
  image_token_id=151655,
  video_token_id=151656,
  vision_start_token_id=151652,
)

QWEN_2_5_VL_3B = dict(
  QWEN_2_5_VL_7B,
  vocab_size=151936,
  hidden_size=2048,
  intermediate_size=11008,
  num_hidden_layers=36,
  num_attention_heads=16,
  num_key_value_heads=2,
  vision_config=dict(QWEN_2_5_VL_VISION, out_hidden_size=2048),
  tie_word_embeddings=True,
)

QWEN_2_5_VL_32B = dict(
  QWEN_2_5_VL_7B,
  hidden_size=5120,
  intermediate_size=27648,
  num_hidden_layers=64,
  num_attention_heads=40,
  num_key_value_heads=8,
  vision_config=dict(
    QWEN_2_5_VL_VISION, intermediate_size=3456, out_hidden_size=5120
  ),
)

QWEN_2_5_VL_72B = dict(
  QWEN_2_5_VL_7B,
  hidden_size=8192,
  intermediate_size=29568,
  num_hidden_layers=80,
  num_attention_heads=64,
  num_key_value_heads=8,
  vision_config=dict(
    QWEN_2_5_VL_VISION, intermediate_size=3456, out_hidden_size=8192
  ),
)

QWEN_3_VL_TEXT = dict(
  model_type="qwen3_vl_text",
  vocab_size=151936,
  num_key_value_heads=8,
  head_dim=128,
  hidden_act="silu",
  rms_norm_eps=1e-6,
  rope_theta=5e6,
  rope_scaling=dict(
    rope_type="default", mrope_interleaved=True, mrope_section=[24, 20, 20]
  ),
  attention_bias=False,
)
QWEN_3_VL_VISION = dict(  # of the two small ones
  model_type="qwen3_vl",
  depth=24,
  hidden_size=1024,
  intermediate_size=4096,
  num_heads=16,
  hidden_act="gelu_pytorch_tanh",
  patch_size=16,
  spatial_merge_size=2,
  temporal_patch_size=2,
  num_position_embeddings=2304,
  deepstack_visual_indexes=[5, 11, 17],
)
QWEN_3_VL = dict(
  model_type="qwen3_vl",
  image_token_id=151655,
  video_token_id=151656,
  vision_start_token_id=151652,
  vision_end_token_id=151653,
)

QWEN_3_VL_2B = dict(
  QWEN_3_VL,
  text_config=dict(
    QWEN_3_VL_TEXT,
    hidden_size=2048,
    intermediate_size=6144,
    num_hidden_layers=28,
    num_attention_heads=16,
    tie_word_embeddings=True,
  ),
  vision_config=dict(QWEN_3_VL_VISION, out_hidden_size=2048),
  tie_word_embeddings=True,
)

QWEN_3_VL_4B = dict(
  QWEN_3_VL,
  text_config=dict(
    QWEN_3_VL_TEXT,
    hidden_size=2560,
    intermediate_size=9728,
    num_hidden_layers=36,
    num_attention_heads=32,
    tie_word_embeddings=True,
  ),
  vision_config=dict(QWEN_3_VL_VISION, out_hidden_size=2560),
  tie_word_embeddings=True,
)

QWEN_3_VL_8B = dict(
  QWEN_3_VL,
  text_config=dict(
    QWEN_3_VL_TEXT,
    hidden_size=4096,
    intermediate_size=12288,
    num_hidden_layers=36,
    num_attention_heads=32,
    tie_word_embeddings=False,
  ),
  vision_config=dict(
    QWEN_3_VL_VISION,
    depth=27,
    hidden_size=1152,
    intermediate_size=4304,
    deepstack_visual_indexes=[8, 16, 24],
    out_hidden_size=4096,
  ),
  tie_word_embeddings=False,
)

PUBLISHED = {
  "auroracap_7b": dict(
    llm=text.VICUNA_7B, visual_encoder=CLIP_H_378, projector=dict(depth=2)
  ),
  "llava_onevision_7b": LLAVA_ONEVISION_7B,
  "llava_video_7b": LLAVA_VIDEO_7B,
  "qwen2_vl_2b": QWEN_2_VL_2B,
  "qwen2_vl_7b": QWEN_2_VL_7B,
  "qwen2_5_vl_3b": QWEN_2_5_VL_3B,
  "qwen2_5_vl_7b": QWEN_2_5_VL_7B,
  "qwen2_5_vl_32b": QWEN_2_5_VL_32B,
  "qwen2_5_vl_72b": QWEN_2_5_VL_72B,
  "qwen3_vl_2b": QWEN_3_VL_2B,
  "qwen3_vl_4b": QWEN_3_VL_4B,
  "qwen3_vl_8b": QWEN_3_VL_8B,
  "llava_next_video_7b": LLAVA_NEXT_VIDEO_7B,
  "llava_1_5_7b": LLAVA_1_5_7B,
  "llama_3_1_8b": text.LLAMA_3_1_8B,
  "llama_3_2_1b": text.LLAMA_3_2_1B,
  "mistral_7b": text.MISTRAL_7B,
  "qwen2_5_7b": text.QWEN_2_5_7B,
  "qwen2_5_0_5b": text.QWEN_2_5_0_5B,
  "gemma_2_2b": text.GEMMA_2_2B,
  "gemma_3_1b": text.GEMMA_3_1B,
}
