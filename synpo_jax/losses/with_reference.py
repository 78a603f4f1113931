"""Preference losses that measure the policy against a reference policy.

All share one signature: logps float32 [B, 2, R] (index 0 chosen, 1 rejected),
mask bool [B, 2, R], ref_logps float32 [B, 2] (summed log-probs of the same
captions under the reference) -> one loss per pair, float32 [B]. Without
ref_logps they raise ValueError.

r is the log-ratio of a caption, log policy - log reference, summed over its
tokens. Docstrings say where the coefficients in configs/losses.py are from: the
papers' own settings; where a paper sets none, whose they are.
"""

import jax
import jax.numpy as jnp

from synpo_jax.losses.sequences import Logps, Losses, Mask, Refs, sequence_stats
from synpo_jax.losses.sequences import nll as nll_of


def log_ratios(logps, mask, ref_logps):
  """Chosen and rejected log-ratios r, float32 [B] each."""
  if ref_logps is None:
    raise ValueError(
      "ref_logps is missing: this loss compares with a reference policy and "
      "needs its summed log-probs, float32 [B, 2]"
    )
  r_B2 = sequence_stats(logps, mask).sum_logp - ref_logps.astype(jnp.float32)
  return r_B2[:, 0], r_B2[:, 1]


def log_ratio_gap(logps, mask, ref_logps):
  """D = r_w - r_l, float32 [B]."""
  chosen, rejected = log_ratios(logps, mask, ref_logps)
  return chosen - rejected


def log_ratio_gap_per_token(logps, mask, ref_logps):
  """r_w/n_w - r_l/n_l, n the token counts, float32 [B]."""
  chosen, rejected = log_ratios(logps, mask, ref_logps)
  length = jnp.maximum(sequence_stats(logps, mask).length, 1.0)
  return chosen / length[:, 0] - rejected / length[:, 1]


def dpo(logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta) -> Losses:
  """-log s(beta (r_w - r_l)).

  Direct Preference Optimization, Rafailov et al. 2023, arXiv:2305.18290,
  eq. 7; beta of its appendix B.
  """
  return -jax.nn.log_sigmoid(beta * log_ratio_gap(logps, mask, ref_logps))


def cdpo(
  logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta, epsilon
) -> Losses:
  """DPO against labels believed flipped with probability epsilon.

  -(1 - e) log s(beta D) - e log s(-beta D), D = r_w - r_l: Mitchell 2023, "A
  note on DPO with noisy preferences & relationship to IPO", eq. 3. The
  authors' release leaves epsilon at 0, which is DPO; ours, which must be below
  0.5, is that of robust_dpo.
  """
  logit = beta * log_ratio_gap(logps, mask, ref_logps)
  clean, flipped = -jax.nn.log_sigmoid(logit), -jax.nn.log_sigmoid(-logit)
  return (1 - epsilon) * clean + epsilon * flipped


def robust_dpo(
  logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta, epsilon
) -> Losses:
  """DPO made unbiased under label flips of probability epsilon below 0.5.

  [-(1 - e) log s(beta D) + e log s(-beta D)] / (1 - 2e), D = r_w - r_l.
  Chowdhury et al. 2024, arXiv:2403.00409; values of section 6 and
  appendix B. Unlike DPO it has no lower bound.
  """
  logit = beta * log_ratio_gap(logps, mask, ref_logps)
  clean, flipped = -jax.nn.log_sigmoid(logit), -jax.nn.log_sigmoid(-logit)
  return ((1 - epsilon) * clean - epsilon * flipped) / (1 - 2 * epsilon)


def ipo(logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta) -> Losses:
  """(r_w/n_w - r_l/n_l - 1/(2 beta))^2, with n the token counts.

  Azar et al. 2023, arXiv:2310.12036, eq. 17, where beta is tau (which the
  paper sweeps; 0.1 is in that range). The division by length is not in the
  paper; its authors confirmed to TRL that they trained so.
  """
  gap = log_ratio_gap_per_token(logps, mask, ref_logps)
  return (gap - 1 / (2 * beta)) ** 2


def sigmoid_norm(
  logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta
) -> Losses:
  """-log s(beta (r_w/n_w - r_l/n_l)): DPO per token, n the token counts.

  Length-normalised DPO, compared in SimPO's paper, arXiv:2405.14734, and the
  loss of Tulu 3, arXiv:2411.15124; the beta is that of its release's commands.
  TRL, which has the loss under this name, leaves its beta at 0.1.
  """
  gap = log_ratio_gap_per_token(logps, mask, ref_logps)
  return -jax.nn.log_sigmoid(beta * gap)


def hinge(logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta) -> Losses:
  """max(0, 1 - beta (r_w - r_l)).

  The hinge-norm loss of Liu et al. 2023 (RSO), arXiv:2309.06657, with its
  gamma as beta, after SLiC, arXiv:2305.10425. RSO itself is this loss on
  pairs drawn by rejection sampling.
  """
  return jax.nn.relu(1 - beta * log_ratio_gap(logps, mask, ref_logps))


def exo(
  logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta, epsilon
) -> Losses:
  """Reverse KL from the policy's to the smoothed label's distribution.

  s(x)(log s(x) - log(1 - e)) + s(-x)(log s(-x) - log e), x = beta (r_w -
  r_l), 0 < e < 1. EXO-pref, Ji et al. 2024, arXiv:2402.00856, eq. 16.
  """
  logit = beta * log_ratio_gap(logps, mask, ref_logps)
  right = jax.nn.log_sigmoid(logit) - jnp.log1p(-epsilon)
  wrong = jax.nn.log_sigmoid(-logit) - jnp.log(epsilon)
  return jax.nn.sigmoid(logit) * right + jax.nn.sigmoid(-logit) * wrong


def nca(logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta) -> Losses:
  """-log s(beta r_w) - 1/2 log s(-beta r_w) - 1/2 log s(-beta r_l).

  Noise contrastive alignment on pairs, Chen et al. 2024, arXiv:2402.05369;
  beta of its appendix C.
  """
  chosen, rejected = log_ratios(logps, mask, ref_logps)
  noise = jax.nn.log_sigmoid(-beta * chosen) + jax.nn.log_sigmoid(
    -beta * rejected
  )
  return -jax.nn.log_sigmoid(beta * chosen) - 0.5 * noise


def sppo(logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta) -> Losses:
  """(r_w - 1/(2 beta))^2 + (r_l + 1/(2 beta))^2.

  Self-Play Preference Optimization with certain labels (P = 1 and 0), Wu et
  al. 2024, arXiv:2405.00675, eq. 4.7; beta = 1/eta, eta = 1000 in section 5.
  """
  chosen, rejected = log_ratios(logps, mask, ref_logps)
  half = 1 / (2 * beta)
  return (chosen - half) ** 2 + (rejected + half) ** 2


def apo_zero(
  logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta
) -> Losses:
  """1 - s(beta r_w) + s(beta r_l): chosen up, rejected down.

  Anchored Preference Optimization, D'Oosterlinck et al. 2024,
  arXiv:2408.06266, eq. 7 (the 1 keeps it positive); beta of section 5.2.
  """
  chosen, rejected = log_ratios(logps, mask, ref_logps)
  return jax.nn.sigmoid(-beta * chosen) + jax.nn.sigmoid(beta * rejected)


def apo_down(
  logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta
) -> Losses:
  """s(beta r_w) + 1 - s(beta (r_w - r_l)): both down, rejected further.

  For policies better than the chosen captions. D'Oosterlinck et al. 2024,
  arXiv:2408.06266, eq. 8 (the 1 keeps it positive); beta of section 5.2.
  """
  chosen, rejected = log_ratios(logps, mask, ref_logps)
  down = jax.nn.sigmoid(beta * chosen)
  return down + jax.nn.sigmoid(beta * (rejected - chosen))


def discopop(
  logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta, tau
) -> Losses:
  """(1 - k) log(1 + exp(-x)) + k exp(-x); x = beta (r_w - r_l), k = s(x/tau).

  The log-ratio modulated loss of Lu et al. 2024, arXiv:2406.08414, eq. 5;
  beta of appendix B, tau of appendix E.
  """
  logit = beta * log_ratio_gap(logps, mask, ref_logps)
  logistic = -jax.nn.log_sigmoid(logit) * jax.nn.sigmoid(-logit / tau)
  # k exp(-x) as one exponential: apart they are 0 * inf for x far below 0.
  return logistic + jnp.exp(jax.nn.log_sigmoid(logit / tau) - logit)


def rpo(
  logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta, alpha, nll="mean"
) -> Losses:
  """-log s(beta (r_w - r_l)) - alpha l_w / n_w: DPO and the chosen NLL.

  Iterative Reasoning Preference Optimization, Pang et al. 2024,
  arXiv:2404.19733, eq. 1, NLL per token; nll="sum" is -alpha l_w in its place.
  """
  ranking = dpo(logps, mask, ref_logps, beta=beta)
  return ranking + alpha * nll_of(sequence_stats(logps, mask), nll)


def r_dpo(
  logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta, alpha
) -> Losses:
  """-log s(beta (r_w - r_l) + alpha (n_w - n_l)), n the token counts.

  Park et al. 2024, arXiv:2403.19159. The sign follows from the
  objective, reward - alpha n - beta KL: a caption's reward is beta r + alpha
  n, so a pair that its length explains teaches less. The coefficients are
  ours: DPO's usual beta, and ten tokens weighing as much as one nat of r.
  """
  gap = log_ratio_gap(logps, mask, ref_logps)
  length = sequence_stats(logps, mask).length
  longer = length[:, 0] - length[:, 1]
  return -jax.nn.log_sigmoid(beta * gap + alpha * longer)


def dpo_shift(
  logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta, lam
) -> Losses:
  """-log s(beta (r_w - lam r_l)): DPO that holds the rejected caption less.

  DPO-Shift, Yang et al. 2025, arXiv:2502.07599, with a fixed lambda of at most
  1, which is DPO; less keeps the chosen caption likelier for a smaller margin.
  Both coefficients are those of its release's recipes.
  """
  chosen, rejected = log_ratios(logps, mask, ref_logps)
  return -jax.nn.log_sigmoid(beta * (chosen - lam * rejected))


def hypo(logps: Logps, mask: Mask, ref_logps: Refs = None, *, beta) -> Losses:
  """-log s(beta (l_w - l_l - max(0, g))), g = l_w - l_l of the reference.

  Hybrid-DPO, Yuan et al. 2026, arXiv:2602.11902: DPO, but where the reference
  prefers the rejected caption it counts as neutral, so that no pair is done
  before the policy itself ranks it right. The beta is DPO's usual one.
  """
  gap = log_ratio_gap(logps, mask, ref_logps)
  reference = ref_logps.astype(jnp.float32)
  against = jax.nn.relu(reference[:, 1] - reference[:, 0])
  return -jax.nn.log_sigmoid(beta * (gap - against))
