"""A tiny Gemma 2: sliding windows, and softcaps on attention's scores."""

from synpo_jax.weights.config_reading import captioner_config

SIZES = dict(
  model_type="gemma2",
  vocab_size=64,
  hidden_size=24,
  intermediate_size=40,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=8,
  sliding_window=16,
  query_pre_attn_scalar=9,
  attn_logit_softcapping=5.0,
  rms_norm_eps=1e-6,
  rope_theta=1e4,
  max_position_embeddings=128,
  hidden_activation="gelu_pytorch_tanh",
  tie_word_embeddings=True,
)
CONFIG = captioner_config(SIZES)
