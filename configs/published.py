"""Sizes of published models, as their own config files state them."""

import ml_collections

from synpo_jax.runtime import names


def arch(name):
  """The configs of `name`'s checkpoint folder, by folder."""
  names.refuse_unknown("model", name, ("tiny", "smol", *PUBLISHED))
  return ml_collections.ConfigDict(PUBLISHED[name])


VICUNA_7B = dict(
  model_type="llama",
  vocab_size=32000,
  hidden_size=4096,
  intermediate_size=11008,
  num_hidden_layers=32,
  num_attention_heads=32,
  num_key_value_heads=32,
  hidden_act="silu",
  rms_norm_eps=1e-5,
  rope_theta=10000.0,
  rope_scaling=dict(type="linear", factor=4.0),
  tie_word_embeddings=False,
)

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

LLAMA_3_2_1B = dict(
  model_type="llama",
  vocab_size=128256,
  hidden_size=2048,
  intermediate_size=8192,
  num_hidden_layers=16,
  num_attention_heads=32,
  num_key_value_heads=8,
  head_dim=64,
  hidden_act="silu",
  rms_norm_eps=1e-5,
  rope_theta=500000.0,
  rope_scaling=dict(
    rope_type="llama3",
    factor=32.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=8192,
  ),
  tie_word_embeddings=True,
)

LLAMA_3_1_8B = dict(
  LLAMA_3_2_1B,
  hidden_size=4096,
  intermediate_size=14336,
  num_hidden_layers=32,
  head_dim=128,
  rope_scaling=dict(LLAMA_3_2_1B["rope_scaling"], factor=8.0),
  tie_word_embeddings=False,
)

MISTRAL_7B = dict(  # v0.3; v0.1 slides over 4096 positions
  model_type="mistral",
  vocab_size=32768,
  hidden_size=4096,
  intermediate_size=14336,
  num_hidden_layers=32,
  num_attention_heads=32,
  num_key_value_heads=8,
  hidden_act="silu",
  rms_norm_eps=1e-5,
  rope_theta=1000000.0,
  sliding_window=None,
  tie_word_embeddings=False,
)

QWEN_2_5_7B = dict(
  model_type="qwen2",
  vocab_size=152064,
  hidden_size=3584,
  intermediate_size=18944,
  num_hidden_layers=28,
  num_attention_heads=28,
  num_key_value_heads=4,
  hidden_act="silu",
  rms_norm_eps=1e-6,
  rope_theta=1000000.0,
  use_sliding_window=False,
  tie_word_embeddings=False,
)

QWEN_2_5_0_5B = dict(
  QWEN_2_5_7B,
  vocab_size=151936,
  hidden_size=896,
  intermediate_size=4864,
  num_hidden_layers=24,
  num_attention_heads=14,
  num_key_value_heads=2,
  tie_word_embeddings=True,
)

GEMMA_2_2B = dict(
  model_type="gemma2",
  vocab_size=256000,
  hidden_size=2304,
  intermediate_size=9216,
  num_hidden_layers=26,
  num_attention_heads=8,
  num_key_value_heads=4,
  head_dim=256,
  hidden_activation="gelu_pytorch_tanh",
  rms_norm_eps=1e-6,
  rope_theta=10000.0,
  query_pre_attn_scalar=256,
  attn_logit_softcapping=50.0,
  final_logit_softcapping=30.0,
  sliding_window=4096,
  attention_bias=False,
  tie_word_embeddings=True,
)

GEMMA_3_1B = dict(
  model_type="gemma3_text",
  vocab_size=262144,
  hidden_size=1152,
  intermediate_size=6912,
  num_hidden_layers=26,
  num_attention_heads=4,
  num_key_value_heads=1,
  head_dim=256,
  hidden_activation="gelu_pytorch_tanh",
  rms_norm_eps=1e-6,
  rope_theta=1000000.0,
  rope_local_base_freq=10000.0,
  query_pre_attn_scalar=256,
  attn_logit_softcapping=None,
  final_logit_softcapping=None,
  sliding_window=512,
  sliding_window_pattern=6,
  attention_bias=False,
  tie_word_embeddings=True,
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

VICUNA_LLAVA = dict(VICUNA_7B, vocab_size=32064, rope_scaling=None)

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
  text_config=dict(QWEN_2_5_7B, vocab_size=152128),
  vision_config=SIGLIP_SO400M_384,
  vision_feature_layer=-1,
  vision_feature_select_strategy="full",
  projector_hidden_act="gelu",
  image_token_index=151646,
  video_token_index=151647,
)

QWEN_2_5_VL_7B = dict(
  QWEN_2_5_7B,
  model_type="qwen2_5_vl",
  rope_scaling=dict(type="mrope", mrope_section=[16, 24, 24]),
  vision_config=dict(
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
  ),
  image_token_id=151655,
  video_token_id=151656,
  vision_start_token_id=151652,
)

PUBLISHED = {
  "auroracap_7b": dict(
    llm=VICUNA_7B, visual_encoder=CLIP_H_378, projector=dict(depth=2)
  ),
  "llava_onevision_7b": LLAVA_ONEVISION_7B,
  "qwen2_5_vl_7b": QWEN_2_5_VL_7B,
  "llava_next_video_7b": LLAVA_NEXT_VIDEO_7B,
  "llava_1_5_7b": LLAVA_1_5_7B,
  "llama_3_1_8b": LLAMA_3_1_8B,
  "llama_3_2_1b": LLAMA_3_2_1B,
  "mistral_7b": MISTRAL_7B,
  "qwen2_5_7b": QWEN_2_5_7B,
  "qwen2_5_0_5b": QWEN_2_5_0_5B,
  "gemma_2_2b": GEMMA_2_2B,
  "gemma_3_1b": GEMMA_3_1B,
}
