"""Losses over all judged captions of a prompt, and pairs made of them.

logps float32 [B, C, R], mask bool [B, C, R] and scores float32 [B, C]: the
judge's, in any order, the higher the better. A row of fewer than C captions is
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

Lists = Float[Array, "B C R"]
Masks = Bool[Array, "B C R"]
Scores = Float[Array, "B C"]

NEAR = 1e-5  # of the least gap: what float32 may lose of a difference


def plackett_luce(
  logps: Lists,
  mask: Masks,
  ref_logps: Float[Array, "B C"] | None = None,
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
      "needs its summed log-probs, float32 [B, C]"
    )
  there_BC = jnp.any(mask, axis=-1)
  sums_BC = sequence_stats(logps, mask).sum_logp
  ratio_BC = jnp.where(there_BC, sums_BC - ref_logps.astype(jnp.float32), 0.0)
  reward_BC = beta * ratio_BC
  itself_1CC = jnp.eye(logps.shape[1], dtype=bool)[None]
  left_BCC = (_gaps(scores, there_BC) > 0) | itself_1CC
  all_BCC = jnp.broadcast_to(reward_BC[:, None], left_BCC.shape)
  total_BC = jax.nn.logsumexp(all_BCC, axis=-1, where=left_BCC)
  return jnp.sum(total_BC - reward_BC, axis=-1)


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
  there_BC = jnp.any(mask, axis=-1)
  stats = sequence_stats(logps, mask)
  gap_BCC = jnp.maximum(_gaps(scores, there_BC), 0.0)
  total_B = jnp.sum(gap_BCC, axis=(1, 2))
  share_BCC = gap_BCC / jnp.where(total_B > 0, total_B, 1.0)[:, None, None]
  margin_BCC = stats.geo_prob[:, :, None] - stats.geo_prob[:, None]
  ranked_BCC = share_BCC * jax.nn.sigmoid(alpha * margin_BCC)
  top_B = jnp.max(jnp.where(there_BC, scores, -jnp.inf), axis=-1)
  best_BC = there_BC & (scores == top_B[:, None])
  fluent_B = jnp.sum(jnp.where(best_BC, stats.avg_prob, 0.0), axis=-1)
  fluent_B /= jnp.maximum(jnp.sum(best_BC, axis=-1), 1)
  return -jnp.sum(ranked_BCC, axis=(1, 2)) - beta * fluent_B


def over_pairs(
  loss: Callable,
  logps: Lists,
  mask: Masks,
  ref_logps: Float[Array, "B C"] | None,
  weight: Weight,
  scores: Scores,
  least: float | int,
) -> Float[Array, "B"]:
  """Mean of a loss of pairs over a row's pairs with a gap of `least` or more.

  loss: (logps [N, 2, R], mask, ref_logps [N, 2] or None, weight [N]) -> [N].
  Where it compares the pairs of an update, those of all rows are compared. A
  row without such a pair has loss 0. To five digits a gap counts as `least`.
  """
  B, C, R = logps.shape
  chosen, rejected = np.nonzero(~np.eye(C, dtype=bool))
  there_BC = jnp.any(mask, axis=-1)
  gap_BCC = _gaps(scores, there_BC)
  wide_Bn = gap_BCC[:, chosen, rejected] >= least * (1 - NEAR)

  def paired(values):
    both = jnp.stack([values[:, chosen], values[:, rejected]], axis=2)
    return both.reshape(-1, *both.shape[2:])

  kept_Bn = wide_Bn if weight is None else wide_Bn & (weight > 0)[:, None]
  refs = None
  if ref_logps is not None:  # of padding they may be anything
    refs = paired(jnp.where(there_BC, ref_logps, 0.0))
  each_Bn = loss(
    paired(logps), paired(mask), refs, kept_Bn.ravel().astype(jnp.float32)
  ).reshape(B, -1)
  count_B = jnp.maximum(jnp.sum(wide_Bn, axis=-1), 1)
  return jnp.sum(jnp.where(wide_Bn, each_Bn, 0.0), axis=-1) / count_B


def ranked_rightly(
  geo_prob: Float[Array, "B C"], mask: Masks, scores: Scores
) -> Float[Array, "B"]:
  """Share of a row's pairs of different scores whose S is in their order."""
  above_BCC = _gaps(scores, jnp.any(mask, axis=-1)) > 0
  right_BCC = above_BCC & (geo_prob[:, :, None] > geo_prob[:, None])
  return jnp.sum(right_BCC, axis=(1, 2)) / jnp.maximum(
    jnp.sum(above_BCC, axis=(1, 2)), 1
  )


def _gaps(scores_BC, there_BC) -> Float[Array, "B C C"]:
  """score_i - score_j, and 0 where a caption is padding."""
  scores_BC = jnp.where(there_BC, scores_BC.astype(jnp.float32), 0.0)
  both_BCC = there_BC[:, :, None] & there_BC[:, None]
  return jnp.where(both_BCC, scores_BC[:, :, None] - scores_BC[:, None], 0.0)


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
