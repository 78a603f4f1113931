"""Losses over all judged captions of a prompt, and pairs made of them.

logps float32 [B, K, R], mask bool [B, K, R] and scores float32 [B, K]: the
judge's, in any order, the higher the better. A row of fewer than K captions is
padded with captions without a token; its scores there may be anything. Each
returns one loss per row, float32 [B].

Captions of equal score are not compared. Scores are compared as they are, so a
judge whose numbers mean little apart should round them first.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from synpo_jax.data import lists as listed
from synpo_jax.losses.sequences import Weight, sequence_stats

Lists = Float[Array, "B K R"]
Masks = Bool[Array, "B K R"]
Scores = Float[Array, "B K"]

NEAR = 1e-5  # of the least gap: what float32 may lose of a difference


def plackett_luce(
  logps: Lists,
  mask: Masks,
  ref_logps: Float[Array, "B K"] | None = None,
  *,
  beta,
  scores: Scores,
) -> Float[Array, "B"]:
  """-sum_i [beta r_i - log(exp(beta r_i) + sum_{j below i} exp(beta r_j))].

  r is a caption's log-ratio, policy to reference; j is below i where its score
  is lower. DPO under the Plackett-Luce model, Rafailov et al. 2023,
  arXiv:2305.18290, appendix A.3: the best is drawn from all, the next from
  those left, and so on; scores count as order alone. Two captions are DPO.
  Captions of equal score stand beside each other: each is drawn before all that
  are below both, neither before the other. beta as in `dpo`.
  """
  if ref_logps is None:
    raise ValueError(
      "ref_logps is missing: this loss compares with a reference policy and "
      "needs its summed log-probs, float32 [B, K]"
    )
  there_BK = jnp.any(mask, axis=-1)
  sums_BK = sequence_stats(logps, mask).sum_logp
  ratio_BK = jnp.where(there_BK, sums_BK - ref_logps.astype(jnp.float32), 0.0)
  reward_BK = beta * ratio_BK
  itself_1KK = jnp.eye(logps.shape[1], dtype=bool)[None]
  left_BKK = (_gaps(scores, there_BK) > 0) | itself_1KK
  all_BKK = jnp.broadcast_to(reward_BK[:, None], left_BKK.shape)
  total_BK = jax.nn.logsumexp(all_BKK, axis=-1, where=left_BKK)
  return jnp.sum(total_BK - reward_BK, axis=-1)


def synpo_list(
  logps: Lists, mask: Masks, *, alpha, beta, scores: Scores
) -> Float[Array, "B"]:
  """-sum_{i over j} w_ij s(alpha (S_i - S_j)) - beta P_best.

  The sum is over pairs with g_ij = score_i - score_j > 0, and w_ij = g_ij / sum
  of all g: SynPO's expected ranking term where an ordered pair of the row is
  drawn as often as its gap is wide. So w sums to 1, the judge's unit drops out,
  alpha and beta keep their meaning whatever the number of captions, pairs that
  the judge can hardly tell apart hardly count, and two captions, whose w is 1,
  are SynPO to the bit. P is the mean of token probabilities; it is averaged
  over captions that tie for best. Where all tie there is nothing to rank.
  """
  there_BK = jnp.any(mask, axis=-1)
  stats = sequence_stats(logps, mask)
  gap_BKK = jnp.maximum(_gaps(scores, there_BK), 0.0)
  total_B = jnp.sum(gap_BKK, axis=(1, 2))
  share_BKK = gap_BKK / jnp.where(total_B > 0, total_B, 1.0)[:, None, None]
  margin_BKK = stats.geo_prob[:, :, None] - stats.geo_prob[:, None]
  ranked_BKK = share_BKK * jax.nn.sigmoid(alpha * margin_BKK)
  top_B = jnp.max(jnp.where(there_BK, scores, -jnp.inf), axis=-1)
  best_BK = there_BK & (scores == top_B[:, None])
  fluent_B = jnp.sum(jnp.where(best_BK, stats.avg_prob, 0.0), axis=-1)
  fluent_B /= jnp.maximum(jnp.sum(best_BK, axis=-1), 1)
  return -jnp.sum(ranked_BKK, axis=(1, 2)) - beta * fluent_B


def over_pairs(
  loss: Callable,
  logps: Lists,
  mask: Masks,
  ref_logps: Float[Array, "B K"] | None,
  weight: Weight,
  scores: Scores,
  least: float | int,
) -> Float[Array, "B"]:
  """Mean of a loss of pairs over a row's pairs with a gap of `least` or more.

  loss: (logps [N, 2, R], mask, ref_logps [N, 2] or None, weight [N]) -> [N].
  Where it compares the pairs of an update, those of all rows are compared. A
  row without such a pair has loss 0. To five digits a gap counts as `least`.
  """
  B, K, R = logps.shape
  chosen, rejected = np.nonzero(~np.eye(K, dtype=bool))
  there_BK = jnp.any(mask, axis=-1)
  gap_BKK = _gaps(scores, there_BK)
  wide_Bn = gap_BKK[:, chosen, rejected] >= least * (1 - NEAR)

  def paired(values):
    both = jnp.stack([values[:, chosen], values[:, rejected]], axis=2)
    return both.reshape(-1, *both.shape[2:])

  kept_Bn = wide_Bn if weight is None else wide_Bn & (weight > 0)[:, None]
  refs = None
  if ref_logps is not None:  # of padding they may be anything
    refs = paired(jnp.where(there_BK, ref_logps, 0.0))
  each_Bn = loss(
    paired(logps), paired(mask), refs, kept_Bn.ravel().astype(jnp.float32)
  ).reshape(B, -1)
  count_B = jnp.maximum(jnp.sum(wide_Bn, axis=-1), 1)
  return jnp.sum(jnp.where(wide_Bn, each_Bn, 0.0), axis=-1) / count_B


def ranked_rightly(
  geo_prob: Float[Array, "B K"], mask: Masks, scores: Scores
) -> Float[Array, "B"]:
  """Share of a row's pairs of different scores whose S is in their order."""
  above_BKK = _gaps(scores, jnp.any(mask, axis=-1)) > 0
  right_BKK = above_BKK & (geo_prob[:, :, None] > geo_prob[:, None])
  return jnp.sum(right_BKK, axis=(1, 2)) / jnp.maximum(
    jnp.sum(above_BKK, axis=(1, 2)), 1
  )


def _gaps(scores_BK, there_BK) -> Float[Array, "B K K"]:
  """score_i - score_j, and 0 where a caption is padding."""
  scores_BK = jnp.where(there_BK, scores_BK.astype(jnp.float32), 0.0)
  both_BKK = there_BK[:, :, None] & there_BK[:, None]
  return jnp.where(both_BKK, scores_BK[:, :, None] - scores_BK[:, None], 0.0)


def check_lists(name: str, read: dict[str, int], gap) -> None:
  """Raises ValueError for losses that would not read the same rows.

  read: captions that each part of the loss `name` reads. gap: its all_pairs.
  """
  whole = [part for part, most in read.items() if most == listed.MOST]
  paired = [part for part, most in read.items() if most == 2]
  anchored = [part for part, most in read.items() if most == 3]
  number = isinstance(gap, int | float) and not isinstance(gap, bool)
  if gap is not None and (not number or not 0 < gap < math.inf):
    raise ValueError(
      f"loss.all_pairs={gap!r}: the least gap between the scores of a pair, a "
      "number above 0, or None"
    )
  if gap is not None and not paired:
    raise ValueError(
      f"loss.all_pairs={gap:g} takes a list apart into pairs, but loss.name="
      f"{name} is no loss of pairs; set loss.all_pairs=None"
    )
  if whole and paired and gap is None:
    raise ValueError(
      f"loss.name={name}: {whole[0]} reads a whole list and {paired[0]} "
      "pairs; set loss.all_pairs to the least gap of the pairs of a list"
    )
  if anchored and (whole or gap is not None):
    raise ValueError(
      f"loss.name={name}: {anchored[0]} reads a reference caption, which "
      "is not read beside a list; use sft, or a loss of pairs without "
      "loss.all_pairs"
    )


def check_gap(all_pairs: float | None, min_score_gap: float | None) -> None:
  """Raises ValueError where rows would stay that hold no pair of all_pairs."""
  least = -math.inf if min_score_gap is None else min_score_gap
  if all_pairs is not None and all_pairs > least:
    raise ValueError(
      f"loss.all_pairs={all_pairs:g} finds no pair in rows that "
      f"data.min_score_gap={min_score_gap} lets in; raise the latter to "
      f"{all_pairs:g}, or lower the former"
    )
