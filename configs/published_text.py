"""Sizes of published language models, as their own config files state them."""

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
