"""Sizes of published models, as their own config files state them."""

import ml_collections


def arch(name):
  """The configs of `name`'s checkpoint folder, by folder."""
  if name not in PUBLISHED:
    raise ValueError(
      f"model={name}: choose tiny or one of {', '.join(PUBLISHED)}"
    )
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

PUBLISHED = {
  "auroracap_7b": dict(
    llm=VICUNA_7B, visual_encoder=CLIP_H_378, projector=dict(depth=2)
  ),
}
