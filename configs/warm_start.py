"""The warm start of the shipped captioner: first to see, then to speak.

python -m synpo_jax.warm_start --config=configs/warm_start.py \
  --workdir=runs/warm_start --out=synpo_jax/assets/tiny

From random weights to the policy that preferences are to better, in one
command of an hour and a half on two CPU cores, which goes on where it was
stopped: clips of the world; a tower taught by labels of each patch; a decoder
taught by careful captions; marks on clips it never saw; captions by a mixture
of annotators; and pairs of what the captioner then writes.
"""

import ml_collections

from configs import claims, vdc

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
  image_size=64,
  patch_size=8,
  hidden_size=128,
  intermediate_size=256,
  num_hidden_layers=5,
  num_attention_heads=4,
  hidden_act="gelu",
  layer_norm_eps=1e-5,
  kept_ratio=0.05,  # 16 tokens a frame
)


def get_config(arg=""):
  """`arg` is `smol`, or nothing."""
  if arg not in ("", "smol"):
    raise ValueError(f"configs/warm_start.py:{arg}: choose smol or nothing")
  c = shipped()
  return smol(c) if arg else c


def shipped():
  """The captioner of `make demo`."""
  c = ml_collections.ConfigDict()
  c.world = dict(clips=8000, rows_per_clip=4, seed=1_000_000)  # to learn from
  c.exam = dict(clips=300, seed=3_000_000)  # for the marks, never learned from
  # Of the careful captioner: share of true claims of a kind told rightly, F1.
  c.gates = dict(colour=0.9, size=0.9, place=0.8, direction=0.7)
  c.gates.update(camera=0.85, shape=0.75, f1=0.8)
  # Folders to take a tower that sees and a language model from, in the place
  # of weights that begin at random.
  c.parts = dict(tower="", decoder="")
  c.tower = tower()
  c.words = words()  # of the projector between such parts
  c.run = run()  # of the careful captioner
  # Then captions by annotators of whom each writes this share.
  c.mixture = dict(terse=0.1, careless=0.6, careful=0.3)
  c.mixing = dict(epochs=1, lr=1e-3, clips=8000)
  c.policy = policy()  # how the shipped pairs are sampled and judged
  return c


def smol(c):
  """SmolLM2-135M behind the shipped captioner's tower, for configs/claims.py.

  python -m synpo_jax.wheels --out=runs/smol
  python -m synpo_jax.warm_start --config=configs/warm_start.py:smol \
    --workdir=runs/smol_warm --out=runs/smol_seeing
  """
  c.world.update(clips=2400, rows_per_clip=1)
  c.exam.clips = 100
  c.parts.update(tower="synpo_jax/assets/tiny", decoder="runs/smol/checkpoint")
  c.run.epochs = 1
  c.run.model.update(arch={}, tokenizer=c.parts.decoder)
  c.run.data.update(
    batch_size=4,
    accumulation=4,
    prefix_buckets=16,
    response_buckets=(32, 64, 96),
  )
  c.run.optim.lr = 5e-4
  c.run.every.checkpoint = 50
  c.mixing.update(lr=2e-4, clips=320)
  c.policy.pairs.most = 0  # the claims sample pairs of their own
  return c


def policy():
  """The study's way, on the clips of the demo."""
  c = ml_collections.ConfigDict()
  c.world = dict(train=320, test=96, seed=2_000_000)
  study = claims.get_config()
  c.candidates, c.pairs, c.run = study.candidates, study.truth.pairs, study.run
  c.pairs.most = 320
  c.run.data.batch_size = 16
  return c


def tower():
  """About half a second for each update on two CPU cores."""
  optim = vdc.get_config().optim.copy_and_resolve_references()
  optim.update(lr=2e-3, weight_decay=0.01, b2=0.98, clip_norm=1.0)
  optim.warmup_frac = 0.05
  return dict(updates=1500, pictures=128, every=100, optim=optim)


def words():
  """A minute or two on two CPU cores."""
  optim = tower()["optim"]
  optim.update(lr=1e-3, weight_decay=0.0)
  return dict(updates=400, pictures=128, optim=optim)


def run():
  """About 0.7 s for each update on two CPU cores."""
  c = vdc.get_config("model=tiny,loss=sft")
  c.epochs = 2
  c.trainable = "params/(decoder|projector)/.*"
  c.model.update(checkpoint="", tokenizer="synpo_jax/assets/tiny")
  c.model.arch = dict(llm=LLM, visual_encoder=TOWER, projector=dict(depth=2))
  c.lora.rank = 0
  c.world.clips = 0  # made by the command itself
  c.data.update(
    batch_size=16,
    prefix_buckets=64,
    response_buckets=(32, 96),
    workers=2,
    min_score_gap=None,
  )
  c.optim.update(lr=2e-3, weight_decay=0.0, b2=0.98, clip_norm=1.0)
  c.optim.warmup_frac = 0.03
  c.every.update(checkpoint=200, reward_norms=0)
  c.heldout.update(pairs="", videos="", scenes="", captions=0)
  return c
