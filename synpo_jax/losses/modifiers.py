"""What changes losses of pairs, whichever they are.

WPO weighs pairs, LD-DPO the tokens that make a caption longer than the other.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from synpo_jax.data import lists as listed
from synpo_jax.losses.sequences import sequence_stats

SORTS = frozenset(["aot"])  # losses whose terms are not of one pair each
SPEAKS = frozenset(["rpo"])  # losses with a reference and an NLL


def closeness(
  logps: Float[Array, "B C R"],
  collisions: Float[Array, "B C R"],
  mask: Bool[Array, "B C R"],
) -> Float[Array, "B C"]:
  """How near a caption is to what the policy writes, float32, a constant.

  Mean over its tokens of log p - log sum_v p_v^2, the latter `collisions`: near
  0 where it is as likely as what the policy would draw.
  """
  near = sequence_stats(logps - collisions, mask).mean_logp
  return jax.lax.stop_gradient(near)


def pair_weights(
  closeness: Float[Array, "B C"], most: float
) -> Float[Array, "B"]:
  """min(most, exp(c_w + c_l)), c the closeness of chosen and rejected.

  Weighted Preference Optimization, Zhou et al. 2024, arXiv:2406.11827, eq. 2:
  pairs count as far as the policy would have written them. Its release has
  most = 1; TRL f2cd577 has no bound, which 1e9 is in effect.
  """
  return jnp.minimum(jnp.exp(closeness[:, 0] + closeness[:, 1]), most)


def longer(mask: Bool[Array, "B C R"]) -> Bool[Array, "B C R"]:
  """Tokens of chosen and rejected beyond as many as the other has."""
  count_BCR = jnp.cumsum(mask, axis=-1)
  shared_B = jnp.min(count_BCR[:, :2, -1], axis=1)
  of_pair_C = jnp.arange(mask.shape[1]) < 2  # a reference caption is whole
  return mask & (count_BCR > shared_B[:, None, None]) & of_pair_C[None, :, None]


def lighten(
  logps: Float[Array, "B C R"],
  mask: Bool[Array, "B C R"],
  alpha: float | int | None,
) -> Float[Array, "B C R"]:
  """Log-probs, of tokens that make a caption longer alpha times as much.

  LD-DPO, Liu et al. 2024, arXiv:2409.06411: what is longer counts less; 1 is
  the plain loss, 0 leaves it out. None changes nothing. As in TRL the
  reference's are weighed alike, and means per token go by all tokens.
  """
  if alpha is None:
    return logps
  return jnp.where(longer(mask), alpha * logps.astype(jnp.float32), logps)


def joined(parts: Float[Any, "B C 2"], alpha) -> Float[Any, "B C"]:
  """A caption's log-prob from its sums over shared tokens and the rest."""
  return parts[..., 0] + alpha * parts[..., 1]


def told(all_pairs, wpo, ld_alpha) -> str:
  """What follows a loss that is changed, in words."""
  how = "" if all_pairs is None else f", all pairs {all_pairs:g} or more apart"
  how += "" if wpo is None else f", weighed by WPO, at most {wpo:g}"
  return how + ("" if ld_alpha is None else f", ld_alpha={ld_alpha:g}")


def check(loss, read: dict[str, int]) -> None:
  """Raises ValueError, in one line, for what changes no loss of this kind.

  loss: a losses.Loss. read: captions that each of its parts reads.
  """
  if loss.wpo is not None:
    _check_number("wpo", loss.wpo, 0 < _real(loss.wpo) < math.inf, "above 0")
    _refuse(loss, "wpo", "the losses of single pairs", _why_not_wpo(loss, read))
  if loss.ld_alpha is not None:
    within = 0 <= _real(loss.ld_alpha) <= 1
    _check_number("ld_alpha", loss.ld_alpha, within, "from 0 to 1")
    what = "the log-probs of a pair, against a reference"
    _refuse(loss, "ld_alpha", what, _why_not_ld_alpha(loss, read))


def _why_not_wpo(loss, read: dict[str, int]) -> list[str]:
  reads = {3: "a reference caption", listed.MOST: "a whole list"}
  why = [f"{part} sorts the margins of all pairs" for part in SORTS & {*read}]
  why += [f"{part} reads {reads[n]}" for part, n in read.items() if n in reads]
  if 2 not in read.values():
    why.append(f"{loss.name} reads no rejected caption")
  return why


def _why_not_ld_alpha(loss, read: dict[str, int]) -> list[str]:
  why = [f"{part} speaks of whole captions" for part in SPEAKS & {*read}]
  lists = [part for part, n in read.items() if n == listed.MOST]
  why += [f"{part} reads a whole list" for part in lists]
  if not loss.needs_reference:
    why.append(f"{loss.name} has no reference")
  return why


def _refuse(loss, key: str, what: str, why: list[str]) -> None:
  if loss.all_pairs is not None:
    why = [*why, "loss.all_pairs takes lists apart"]
  if why:
    raise ValueError(
      f"loss.{key}={getattr(loss, key):g} weighs {what}, but {why[0]} "
      f"(loss.name={loss.name}); set loss.{key}=None or choose another loss"
    )


def _real(value) -> float | int:
  """The number that a key holds; NaN where it holds none."""
  number = isinstance(value, int | float) and not isinstance(value, bool)
  return value if number else math.nan


def _check_number(key: str, value, fine: bool, where: str) -> None:
  if not fine:
    raise ValueError(f"loss.{key}={value!r}: a number {where}, or None")
