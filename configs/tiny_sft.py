"""The warm start of the shipped captioner: captions of the synthetic world.

python -m synpo_jax.world --out=runs/warmworld --clips=6000 \
  --seed=1000000 --heldout=100
python -m synpo_jax.train --config=configs/tiny_sft.py --workdir=runs/tiny_sft
python -m synpo_jax.export --workdir=runs/tiny_sft --format=merged \
  --out=runs/tiny_first
python -m synpo_jax.train --config=configs/tiny_sft.py \
  --workdir=runs/tiny_sft2 --config.model.checkpoint=runs/tiny_first \
  --config.epochs=2 --config.optim.lr=1e-3
python -m synpo_jax.export --workdir=runs/tiny_sft2 --format=merged \
  --out=synpo_jax/assets/tiny

All 2.7 million weights learn, from random ones; nothing is frozen.
"""

from configs import vdc

LLM = dict(
  model_type="llama",
  vocab_size=740,
  hidden_size=192,
  intermediate_size=512,
  num_hidden_layers=4,
  num_attention_heads=6,
  num_key_value_heads=6,
  rms_norm_eps=1e-5,
  rope_theta=10000.0,
  tie_word_embeddings=False,
)
TOWER = dict(
  model_type="clip_vision_model",
  image_size=48,
  patch_size=8,
  hidden_size=128,
  intermediate_size=256,
  num_hidden_layers=5,
  num_attention_heads=4,
  hidden_act="gelu",
  layer_norm_eps=1e-5,
  kept_ratio=0.3,
)


def get_config():
  """About a second for each update on two CPU cores."""
  c = vdc.get_config("model=tiny,loss=sft")
  c.epochs = 1
  c.trainable = "params/.*"
  c.cache.features = False  # the tower learns, too
  c.model.update(checkpoint="", tokenizer="synpo_jax/assets/tiny")
  c.model.arch = dict(llm=LLM, visual_encoder=TOWER, projector=dict(depth=2))
  c.model.remat = "save_dots"
  c.lora.rank = 0
  c.world.clips = 0  # made by its own command, above
  c.data.update(
    pairs="runs/warmworld/sft.jsonl",
    videos="runs/warmworld",
    batch_size=32,
    prefix_buckets=64,
    response_buckets=(48, 112),
    workers=2,
  )
  c.optim.update(lr=1.5e-3, weight_decay=0.0, b2=0.98, clip_norm=1.0)
  c.optim.warmup_frac = 0.05
  c.every.update(checkpoint=100, reward_norms=0)
  c.heldout.update(
    pairs="runs/warmworld/heldout.jsonl",
    videos="runs/warmworld",
    scenes="runs/warmworld/scenes.jsonl",
    captions=96,
  )
  return c
