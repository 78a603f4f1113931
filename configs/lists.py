"""Two of a clip's judged captions, or all of them: the study of claims again.

python -m synpo_jax.claims --config=configs/lists.py --workdir=runs/lists

The regime `truth` of configs/claims.py on rows of all candidates that are as
long as the best, eight sampled and judged for each clip. Losses of pairs read
of each row the best and the worst, losses of lists all; clips, judged captions
and updates are the same, so what a loss learns more it learns from captions
that were paid for either way. A run of minutes, to see that it goes through:

  python -m synpo_jax.claims --config=configs/lists.py --workdir=runs/lists \
    --config.methods='("synpo", "synpo_list")' --config.seeds='(1,)' \
    --config.world.train=48 --config.lrs='(1e-3,)' --config.look.captions=100
"""

from configs import claims, losses

METHODS = ("synpo", "synpo_list", "dpo", "plackett_luce")


def get_config():
  c = claims.get_config()
  c.losses = {name: dict(losses.LOSSES[name]) for name in METHODS}
  c.methods = METHODS
  c.regimes = ("truth",)
  c.truth.pairs.lists = True
  c.truth.second, c.truth.collapse = (), ()
  c.results = "results/lists.json"
  return c
