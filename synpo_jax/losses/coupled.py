"""Losses in which the rows of a batch read each other.

As the losses of with_reference, with `weight` float32 [B] besides: rows of
weight 0 are fillers that change no other row's loss or gradient (None: no row
is a filler). What the rows share is a constant to the gradient. The
batch is a whole update, of at least two pairs, however it is cut into
micro-batches (training/gradients.py).
"""

import jax
import jax.numpy as jnp

from synpo_jax.losses.sequences import Logps, Losses, Mask, Refs, Weight
from synpo_jax.losses.with_reference import log_ratio_gap, log_ratios


def aot(
  logps: Logps,
  mask: Mask,
  ref_logps: Refs = None,
  *,
  beta,
  weight: Weight = None,
) -> Losses:
  """-log s(beta (u_(k) - v_(k))) over the batch's sorted margins.

  u = l_w - l_l under the policy, v under the reference: the k-th smallest u
  is compared with the k-th smallest v, and a row is given the term of its
  own u. Alignment via Optimal Transport, paired, Melnyk et al. 2024,
  arXiv:2406.05882; beta of figure 2. Meant for large batches: a batch of one
  is DPO.
  """
  gap_B = log_ratio_gap(logps, mask, ref_logps)
  v_B = (ref_logps[:, 0] - ref_logps[:, 1]).astype(jnp.float32)
  u_B = gap_B + v_B
  real_B = _real_rows(u_B, weight)
  # Fillers are sorted behind the real rows, so they take no partner away.
  key_B = jnp.where(real_B, jax.lax.stop_gradient(u_B), jnp.inf)
  rank_B = jnp.argsort(jnp.argsort(key_B))
  partner_B = jnp.sort(jnp.where(real_B, v_B, jnp.inf))[rank_B]
  gap_B = jnp.where(real_B, u_B - jnp.where(real_B, partner_B, 0.0), gap_B)
  return -jax.nn.log_sigmoid(beta * gap_B)


def bco(
  logps: Logps,
  mask: Mask,
  ref_logps: Refs = None,
  *,
  beta,
  weight: Weight = None,
) -> Losses:
  """-log s(beta r_w - d) - log s(-(beta r_l - d)).

  d = beta (mean r_w + mean r_l) / 2 over the batch is the paper's reward
  shift (which its release smooths over steps). Binary Classifier
  Optimization, Jung et al. 2024, arXiv:2404.04656; beta of appendix C.
  """
  chosen, rejected = log_ratios(logps, mask, ref_logps)
  shift = beta * _batch_mean((chosen + rejected) / 2, weight)
  return -jax.nn.log_sigmoid(beta * chosen - shift) - jax.nn.log_sigmoid(
    shift - beta * rejected
  )


def kto(
  logps: Logps,
  mask: Mask,
  ref_logps: Refs = None,
  *,
  beta,
  desirable,
  undesirable,
  weight: Weight = None,
) -> Losses:
  """a (1 - s(beta (r_w - z_w))) + b (1 - s(beta (z_l - r_l))).

  Kahneman-Tversky Optimization, Ethayarajh et al. 2024, arXiv:2402.01306,
  on pairs: a, b are the weights desirable and undesirable. The paper
  takes the reference point z, an estimate of KL(policy || reference), from
  captions of other prompts, which would cost a second forward pass; on pairs
  its first report takes each half's from the other: z_w = max(0, mean r_l),
  z_l = max(0, mean r_w) over the batch. Summed over the pair, where the
  paper averages over single captions. It has no NLL, in the paper as in TRL; a
  mixture with sft adds one.
  """
  chosen, rejected = log_ratios(logps, mask, ref_logps)
  z_chosen = jax.nn.relu(_batch_mean(rejected, weight))
  z_rejected = jax.nn.relu(_batch_mean(chosen, weight))
  return desirable * jax.nn.sigmoid(
    beta * (z_chosen - chosen)
  ) + undesirable * jax.nn.sigmoid(beta * (rejected - z_rejected))


def check_together(loss, pairs: int, where: str) -> None:
  """Raises ValueError where a loss of several pairs would read one alone.

  pairs: the fewest that meet in an update. where: what they were counted from.
  """
  if loss.coupled and pairs < 2:
    raise ValueError(
      f"loss.name={loss.name} compares the pairs of an update with each other, "
      f"and {where}; change data.batch_size or data.accumulation (an update "
      "holds their product), or choose another loss"
    )


def _batch_mean(x_B, weight):
  """Mean over the rows that are no fillers, as a constant."""
  x_B = jax.lax.stop_gradient(x_B)
  real_B = _real_rows(x_B, weight)
  count = jnp.maximum(jnp.sum(real_B), 1)
  return jnp.sum(jnp.where(real_B, x_B, 0.0)) / count


def _real_rows(x_B, weight):
  return jnp.ones_like(x_B, bool) if weight is None else weight > 0
