"""Losses that need no reference policy: SynPO, and its kin."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from synpo_jax.losses.sequences import Logps, Losses, Mask, sequence_stats
from synpo_jax.losses.sequences import nll as nll_of


def synpo(logps: Logps, mask: Mask, *, alpha, beta) -> Losses:
  """-s(alpha (S_w - S_l)) - beta P_w.

  S = exp(m) is a caption's geometric-mean token probability, P the
  arithmetic mean. Ranks the pair and keeps the chosen caption likely, with
  no reference policy. SynPO, arXiv:2506.00835; alpha and beta of the
  official release.
  """
  stats = sequence_stats(logps, mask)
  gap = stats.geo_prob[:, 0] - stats.geo_prob[:, 1]
  return -jax.nn.sigmoid(alpha * gap) - beta * stats.avg_prob[:, 0]


def synpo_log(logps: Logps, mask: Mask, *, alpha, beta) -> Losses:
  """-log s(alpha (S_w - S_l)) - beta P_w: SynPO, ranking by log s.

  An ablation of ours, with SynPO's coefficients. The release ranks by s, which
  leaves pairs that are far wrong alone; log s pulls at them all the harder.
  With beta 0 it is AlphaPO with alpha -1 and gamma 0.
  """
  stats = sequence_stats(logps, mask)
  gap = stats.geo_prob[:, 0] - stats.geo_prob[:, 1]
  return -jax.nn.log_sigmoid(alpha * gap) - beta * stats.avg_prob[:, 0]


def cpo(logps: Logps, mask: Mask, *, beta, alpha, nll="sum") -> Losses:
  """-log s(beta (l_w - l_l)) - alpha l_w; -alpha m_w with nll="mean".

  Contrastive Preference Optimization, Xu et al. 2024, arXiv:2401.08417,
  section 3; beta of 4.2. The paper's NLL is of the whole caption, weight 1;
  TRL's is the mean over the tokens of all chosen captions of a batch, which
  nll="mean" is for captions of one length.
  """
  stats = sequence_stats(logps, mask)
  chosen, rejected = stats.sum_logp.T
  ranking = -jax.nn.log_sigmoid(beta * (chosen - rejected))
  return ranking + alpha * nll_of(stats, nll)


def simpo(logps: Logps, mask: Mask, *, beta, gamma) -> Losses:
  """-log s(beta (m_w - m_l) - gamma).

  Meng et al. 2024, arXiv:2405.14734, eq. 6. Coefficients of the authors'
  release (beta 2, gamma/beta 0.25, no NLL term); they tune beta in 2 to 10 and
  gamma/beta in 0.1 to 0.8.
  """
  chosen, rejected = sequence_stats(logps, mask).mean_logp.T
  return -jax.nn.log_sigmoid(beta * (chosen - rejected) - gamma)


def alphapo(logps: Logps, mask: Mask, *, alpha, beta, gamma) -> Losses:
  """-log s(beta (f_w - f_l) - gamma), f = (1 - exp(-alpha m)) / alpha.

  Gupta et al. 2025, arXiv:2501.03884: SimPO, which it is at alpha 0, with the
  reward of another shape. Coefficients of its table 3 (Mistral-Instruct), as
  TRL's index of papers gives them. exp ends at e^80, float32 not far behind.
  """
  mean = sequence_stats(logps, mask).mean_logp
  if alpha:
    mean = -jnp.expm1(jnp.minimum(-alpha * mean, 80.0)) / alpha
  chosen, rejected = mean.T
  return -jax.nn.log_sigmoid(beta * (chosen - rejected) - gamma)


def orpo(logps: Logps, mask: Mask, *, lam, nll="mean") -> Losses:
  """-m_w - lam log s(log odds_w - log odds_l), odds = exp(m)/(1 - exp(m)).

  Odds Ratio Preference Optimization, Hong et al. 2024, arXiv:2403.07691,
  eqs. 6 and 7, NLL per token; lambda of its table 7. nll="sum" is -l_w in its
  place. TRL's is the mean over a batch's tokens, those of the prompts too.
  Means are kept below -1e-7, where the odds of a certain caption end.
  """
  stats = sequence_stats(logps, mask)
  mean = stats.mean_logp
  below = jnp.minimum(mean, -jnp.finfo(jnp.float32).eps)
  chosen, rejected = (below - jnp.log(-jnp.expm1(below))).T
  return nll_of(stats, nll) - lam * jax.nn.log_sigmoid(chosen - rejected)


def slic_hf(logps: Logps, mask: Mask, *, delta, lam, nll="sum") -> Losses:
  """max(0, delta - l_w + l_l) - lam l_w; -lam m_w with nll="mean".

  Sequence Likelihood Calibration, Zhao et al. 2023, arXiv:2305.10425, eq. 4,
  with the chosen caption as the regularisation target. The paper tunes both
  coefficients; ours are those of the KTO authors' release.
  """
  stats = sequence_stats(logps, mask)
  chosen, rejected = stats.sum_logp.T
  return jax.nn.relu(delta - chosen + rejected) + lam * nll_of(stats, nll)


def rrhf(logps: Logps, mask: Mask, *, lam, nll="sum") -> Losses:
  """max(0, m_l - m_w) - lam l_w; -lam m_w with nll="mean".

  Yuan et al. 2023, arXiv:2304.05302, with two responses; the paper's NLL is of
  the whole caption, weight 1. TRL has no RRHF.
  """
  stats = sequence_stats(logps, mask)
  chosen, rejected = stats.mean_logp.T
  return jax.nn.relu(rejected - chosen) + lam * nll_of(stats, nll)


def sft(
  logps: Float[Array, "B C R"], mask: Bool[Array, "B C R"]
) -> Float[Array, "B"]:
  """-m_w: negative log-likelihood of the chosen caption, nats per token.

  Reads index 0 alone, so rows may hold one caption.
  """
  return -sequence_stats(logps[:, :1], mask[:, :1]).mean_logp[:, 0]


def tpo(
  logps: Float[Array, "B 3 R"],
  mask: Bool[Array, "B 3 R"],
  *,
  beta,
  alpha,
) -> Float[Array, "B"]:
  """-log s(beta (l_w - l_l)) - alpha m_g, g the reference caption, index 2.

  Triple Preference Optimization, Saeidi et al. 2024, arXiv:2405.16681, section
  3; coefficients of the same and table 6, as TRL's index of papers gives them.
  NLL per token, as in TRL.
  """
  ranking = cpo(logps[:, :2], mask[:, :2], beta=beta, alpha=0.0, nll="sum")
  return ranking + alpha * gold_nll(logps, mask)


def gold_nll(
  logps: Float[Array, "B 3 R"], mask: Bool[Array, "B 3 R"]
) -> Float[Array, "B"]:
  """-m_g: negative log-likelihood of the reference caption, nats per token.

  Reads index 2 alone; in a mixture it anchors any other loss.
  """
  return -sequence_stats(logps[:, 2:], mask[:, 2:]).mean_logp[:, 0]
