"""The paper's claims on the synthetic world: eight losses, one captioner.

python -m synpo_jax.claims --config=configs/claims.py --workdir=runs/claims \
  --readme=results/README.md

The pairs are sampled from the captioner itself and judged exactly, the
paper's on-policy setting. Every loss has its paper's coefficients, the same
budget and the same grid of learning rates. A rate is chosen by QA accuracy on
validation clips with one seed, then all seeds are trained at it; scores are
of test clips. Two cells with another seed, beside the published ones:

  python -m synpo_jax.claims --config=configs/claims.py --workdir=runs/claims \
    --config.methods='("synpo", "dpo")' --config.seeds='(7,)' \
    --config.results=runs/claims/seed7.json
"""

import ml_collections

from configs import vdc

LOSSES = ("synpo", "dpo", "ipo", "simpo", "orpo", "cpo", "kto", "sft")


def get_config():
  c = ml_collections.ConfigDict()
  c.losses = {name: dict(vdc.LOSSES[name]) for name in LOSSES}
  # A loss, or one with a coefficient changed, at its loss's learning rate.
  c.methods = LOSSES + (
    "synpo alpha=10",
    "synpo alpha=100",
    "synpo beta=0",
    "synpo beta=1",
  )
  c.lrs = (4e-4, 1.6e-3, 6.4e-3)
  c.seeds = (0, 1, 2)  # of the adapter's start and the order of the pairs
  c.tuning_seed = 0  # learning rates are compared with this one
  c.reward_norms = 8  # updates between two measurements; curves of each cell
  c.results = "results/claims.json"
  # Clips of the world by split, none of them in warm start or demo.
  c.world = dict(train=400, validation=96, test=192, seed=4_000_000, workers=2)
  c.candidates = dict(
    candidates=8,  # captions sampled for each clip
    new=96,  # longest caption, in tokens
    seed=0,
    sampling=dict(temperature=0.9, top_k=32, top_p=0.95),
  )
  # The best and the worst by F1 of claims, of candidates of about one length.
  c.pairs = dict(min_gap=0.1, length_ratio=1.25)
  c.run = vdc.get_config()  # captioner, adapter, batches, optimiser
  c.run.epochs = 2
  c.run.world.clips = 0
  return c
