"""Coefficients of every loss, and the sums of losses that have a name."""

# The coefficients of each paper, as the docstrings in synpo_jax/losses cite
# them (those of r_dpo, hypo and synpo_log are ours). aot, bco and kto compare
# all pairs of an update: they want many, and cost a second forward pass where
# there are micro-batches.
LOSSES = {
  "synpo": dict(alpha=30.0, beta=0.2),
  "synpo_log": dict(alpha=30.0, beta=0.2),
  "dpo": dict(beta=0.1),
  "cdpo": dict(beta=0.1, epsilon=0.1),
  "robust_dpo": dict(beta=0.1, epsilon=0.1),
  "ipo": dict(beta=0.1),
  "sigmoid_norm": dict(beta=5.0),
  "dpo_shift": dict(beta=0.01, lam=0.7),
  "hypo": dict(beta=0.1),
  "hinge": dict(beta=0.05),
  "exo": dict(beta=0.1, epsilon=1e-3),
  "nca": dict(beta=0.01),
  "bco": dict(beta=0.01),
  "sppo": dict(beta=0.001),
  "apo_zero": dict(beta=0.1),
  "apo_down": dict(beta=0.1),
  "discopop": dict(beta=0.05, tau=0.05),
  "aot": dict(beta=0.01),
  # nll: of the chosen caption, its sum or its mean per token; here the papers'.
  "rpo": dict(beta=0.1, alpha=1.0, nll="mean"),
  "r_dpo": dict(beta=0.1, alpha=0.01),
  "kto": dict(beta=0.1, desirable=1.0, undesirable=1.0),
  "cpo": dict(beta=0.1, alpha=1.0, nll="sum"),
  "simpo": dict(beta=2.0, gamma=0.5),
  "alphapo": dict(alpha=0.25, beta=2.5, gamma=0.1),
  "orpo": dict(lam=0.1, nll="mean"),
  "slic_hf": dict(delta=1.0, lam=0.1, nll="sum"),
  "rrhf": dict(lam=1.0, nll="sum"),
  "sft": dict(),
  "tpo": dict(beta=0.01, alpha=1.0),  # these two want reference captions
  "gold_nll": dict(),
  # These read all judged captions of a row (captions, scores), best first.
  "plackett_luce": dict(beta=0.1),
  "synpo_list": dict(alpha=30.0, beta=0.2),
}

# Several losses of one forward pass, added up: {loss: its coefficients, and its
# weight in the sum}. mpo: arXiv:2411.10442, section 7; the betas, which are one
# in TRL, are its default. gdpo: DPO beside the reference captions, in the share
# reported of video-SALMONN 2, arXiv:2506.15220.
MIXTURES = {
  "mpo": dict(
    dpo=dict(weight=0.8, beta=0.1),
    bco=dict(weight=0.2, beta=0.1),
    sft=dict(weight=1.0),
  ),
  "gdpo": dict(dpo=dict(weight=1.0, beta=0.1), gold_nll=dict(weight=0.1)),
}
