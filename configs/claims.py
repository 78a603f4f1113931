"""The paper's claims on the synthetic world, in two regimes.

python -m synpo_jax.claims --config=configs/claims.py --workdir=runs/claims \
  --readme=results/README.md

Both start from one captioner, ask it for candidates, judge them exactly and
make pairs, the paper's on-policy setting:

- `style`: the captioner is first taught to be terse for most clips, and pairs
  are of any length, so what sets a pair apart is mostly how much it tells;
- `truth`: the shipped captioner, and pairs of one length and style, which
  differ in facts alone.

Every loss has its paper's coefficients, the same pairs and updates. A learning
rate is a loss's own: a ladder is climbed until validation clips like both its
neighbours less. Then other seeds are trained at it, and scored on test clips.
One regime, and two cells with another seed beside the published ones:

  python -m synpo_jax.claims --config=configs/claims.py --workdir=runs/claims \
    --config.regimes='("truth",)' --config.methods='("synpo", "dpo")' \
    --config.seeds='(7,)' --config.results=runs/claims/seed7.json

And at fifty times the weights, with SmolLM2-135M in the decoder's place
(configs/warm_start.py:smol makes that captioner), one seed:

  python -m synpo_jax.claims --config=configs/claims.py:smol \
    --workdir=runs/claims_smol --readme=results/smollm2.md
"""

import ml_collections

from configs import losses, vdc

LOSSES = ("synpo", "dpo", "ipo", "simpo", "orpo", "cpo", "kto", "sft")


def get_config(arg=""):
  """`arg` is `smol`, or nothing."""
  if arg not in ("", "smol"):
    raise ValueError(f"configs/claims.py:{arg}: choose smol or nothing")
  c = shipped()
  return smol(c) if arg else c


def shipped():
  """The study of the shipped captioner, `make claims`."""
  c = ml_collections.ConfigDict()
  c.losses = {name: dict(losses.LOSSES[name]) for name in LOSSES}
  c.regimes = ("style", "truth")
  # A loss, or one with a coefficient changed, at its loss's learning rate.
  c.methods = LOSSES + (
    "synpo alpha=10",
    "synpo alpha=100",
    "synpo beta=0",
    "synpo beta=1",
  )
  # Rungs of the ladder; the climb begins at lr_start and both its neighbours.
  c.lrs = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
  c.lr_start = 1e-3
  c.tuning_seed = 0  # of the adapter's start and the order of the pairs
  c.seeds = (1, 2, 3)
  # Updates between two looks: at the rewards' gradients and the bell in every
  # cell, at captions of validation clips in those of the first seed.
  c.look = dict(gradients=8, captions=6)
  c.results = "results/claims.json"
  # Clips by split, none of them in warm start or demo.
  c.world = dict(
    policy=1024, train=256, validation=48, test=128, second=256, seed=4_000_000
  )
  c.candidates = dict(
    candidates=8,  # captions sampled for each clip
    new=96,  # longest caption, in tokens
    seed=0,
    sampling=dict(temperature=0.9, top_k=32, top_p=0.95),
  )
  c.style = style()
  c.truth = truth()
  c.run = run()  # captioner, adapter, batches, optimiser
  return c


def run():
  """An update of 8 pairs takes about half a second on two CPU cores."""
  c = vdc.get_config()
  c.epochs = 1
  c.world.clips = 0
  c.data.batch_size = 8
  return c


def style():
  """Terse first; the best candidate against the worst."""
  return dict(
    # Supervised updates on captions by annotators, each of whom writes that
    # share; 0 updates: the captioner as it is.
    policy=dict(
      updates=128, lr=2e-3, shares=dict(terse=0.6, careless=0.15, careful=0.25)
    ),
    # Least difference of F1; most words of the longer caption of a pair, in
    # words of the shorter; most pairs, so that both regimes have as many.
    pairs=dict(min_gap=0.1, length_ratio=100.0, most=192),
    second=(),
    collapse=(),
  )


def truth():
  """The best candidate against the worst of its length."""
  return dict(
    policy=dict(updates=0, lr=0.0, shares=dict(careful=1.0)),
    pairs=dict(min_gap=0.1, length_ratio=1.25, most=192),
    # Methods that go on: pairs of what the trained captioner writes.
    second=("synpo", "dpo"),
    # Methods trained past all measure, to see what breaks first.
    collapse=("synpo", "dpo"),
    collapse_epochs=5,
    collapse_lr=4.0,  # of the chosen rate
  )


def smol(c):
  """SynPO, DPO, SimPO and SFT with SmolLM2-135M, truth alone, one seed."""
  methods = ("synpo", "dpo", "simpo", "sft")
  c.losses = {name: c.losses[name] for name in methods}
  c.methods, c.regimes, c.seeds = methods, ("truth",), (1,)
  c.truth.update(second=(), collapse=())
  c.truth.pairs.most = 96
  c.lrs = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
  c.look.captions = 6
  c.world.update(policy=0, train=128, validation=32, test=64, second=0)
  c.run.model.update(checkpoint="runs/smol_seeing", remat="save_dots")
  c.run.data.prefix_buckets = 16
  c.results = "results/claims_smol.json"
  return c
