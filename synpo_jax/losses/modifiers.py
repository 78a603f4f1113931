"""What changes losses of pairs, whichever they are: WPO's weights."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from synpo_jax.data import lists as listed
from synpo_jax.losses.sequences import sequence_stats

SORTS = frozenset(["aot"])  # losses whose terms are not of one pair each


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


def check_wpo(name: str, read: dict[str, int], most, all_pairs) -> None:
  """Raises ValueError, in one line, where pairs cannot be weighed.

  read: captions that each part of the loss `name` reads. most: its wpo, None
  for no weights. all_pairs: of the loss.
  """
  if most is None:
    return
  check_above_zero("loss.wpo", most, "the most that a pair weighs")
  why = [reason for part, n in read.items() if (reason := _whole(part, n))]
  if not why and 2 not in read.values():
    why = [f"{name} reads no rejected caption"]
  if not why and all_pairs is not None:
    why = ["loss.all_pairs takes lists apart"]
  if why:
    raise ValueError(
      f"loss.wpo={most:g} weighs the losses of single pairs, but {why[0]} "
      f"(loss.name={name}); set loss.wpo=None or choose a loss of pairs"
    )


def _whole(part: str, captions: int) -> str:
  """Why a part of a loss is not that of one pair; empty where it is."""
  if part in SORTS:
    return f"{part} sorts the margins of all pairs"
  reads = {3: "a reference caption", listed.MOST: "a whole list"}
  return f"{part} reads {reads[captions]}" if captions in reads else ""


def check_above_zero(key: str, value, what: str) -> None:
  """Raises ValueError unless a key's value is a finite number above 0."""
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if not number or not 0 < value < math.inf:
    raise ValueError(f"{key}={value!r}: {what}, a number above 0, or None")
