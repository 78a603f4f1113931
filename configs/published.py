"""Sizes of published models, as their own config files state them."""

import ml_collections

from configs import published_qwen as qwen
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

PUBLISHED = {
  "auroracap_7b": dict(
    llm=text.VICUNA_7B, visual_encoder=CLIP_H_378, projector=dict(depth=2)
  ),
  "llava_onevision_7b": LLAVA_ONEVISION_7B,
  "llava_video_7b": LLAVA_VIDEO_7B,
  "qwen2_vl_2b": qwen.QWEN_2_VL_2B,
  "qwen2_vl_7b": qwen.QWEN_2_VL_7B,
  "qwen2_5_vl_3b": qwen.QWEN_2_5_VL_3B,
  "qwen2_5_vl_7b": qwen.QWEN_2_5_VL_7B,
  "qwen2_5_vl_32b": qwen.QWEN_2_5_VL_32B,
  "qwen2_5_vl_72b": qwen.QWEN_2_5_VL_72B,
  "qwen3_vl_2b": qwen.QWEN_3_VL_2B,
  "qwen3_vl_4b": qwen.QWEN_3_VL_4B,
  "qwen3_vl_8b": qwen.QWEN_3_VL_8B,
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
