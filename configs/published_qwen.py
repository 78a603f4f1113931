"""Sizes of the video models of Qwen, as their own config files state them."""

from configs import published_text as text

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
