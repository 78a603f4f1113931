"""Token merging (ToMe): similar visual tokens of a frame become one.

Bolya et al., "Token Merging: Your ViT But Faster" (ICLR 2023), as AuroraCap
applies it: the same number of merges in every layer, between attention and
MLP. Counts are static, so the whole schedule is known before tracing; what
is traced is only which tokens meet.

Buffers may be longer than the tokens that live in them: live tokens stand in
front, and merging keeps them there. So one compiled body serves layers with
different counts.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Stage(NamedTuple):
  """Consecutive layers that share one compiled body."""

  start: int  # first layer
  stop: int  # one past the last
  slots: int  # buffer length: the tokens that enter `start`


def stages(counts: tuple[int, ...], most: int) -> tuple[Stage, ...]:
  """Splits layers into at most `most` stages with the fewest empty slots.

  A body is compiled per stage and costs `slots` tokens in each of its
  layers. Layers with equal counts share a stage for free, so a tower that
  does not merge is one stage; a tower of up to `most` layers wastes nothing.
  """
  layers = len(counts) - 1

  @functools.cache
  def best(start, left):  # -> (slots in all, stages used, the stages)
    if start == layers:
      return 0, 0, ()
    options = [(math.inf, 0, ())]
    for stop in range(start + 1, layers + 1) if left else ():
      cost, used, rest = best(stop, left - 1)
      stage = Stage(start, stop, counts[start])
      cost += stage.slots * (stop - start)
      options.append((cost, used + 1, (stage, *rest)))
    return min(options)

  return best(0, most)[-1]


def destinations(
  metric: Float[Array, "I S h"],
  live: Int[Array, ""] | int,
  merges: Int[Array, ""] | int,
) -> Int[Array, "I S"]:
  """The slot each token moves to when `merges` tokens join another.

  Even slots (the class token's 0 among them, which never moves) look for
  the most similar odd slot; the `merges` best matched join theirs. The order
  afterwards: even slots that stayed, then all odd ones. Slots from `live`
  on are empty and get the destination S, which does not exist.
  `merges` is at most `(live - 1) // 2`.
  """
  slots = metric.shape[1]
  metric = jax.lax.stop_gradient(metric.astype(jnp.float32))
  metric /= jnp.linalg.norm(metric, axis=-1, keepdims=True)
  scores = jnp.einsum(
    "iad,ibd->iab", metric[:, ::2], metric[:, 1::2], precision="highest"
  )
  is_live = jnp.arange(slots) < live
  scores = jnp.where(is_live[None, None, 1::2], scores, -jnp.inf)
  partner = jnp.argmax(scores, axis=-1)
  may_leave = is_live[::2].at[0].set(False)
  score = jnp.where(may_leave[None], jnp.max(scores, axis=-1), -jnp.inf)
  leaves = (_rank(score) < merges) & may_leave[None]
  stays = is_live[None, ::2] & ~leaves
  first_odd = (live + 1) // 2 - merges
  even = jnp.where(leaves, first_odd + partner, jnp.cumsum(stays, axis=1) - 1)
  odd = first_odd + jnp.arange(partner.shape[1])[None]
  both = jnp.stack(jnp.broadcast_arrays(even, odd), axis=-1)
  both = both.reshape(len(metric), -1)[:, :slots]
  return jnp.where(is_live[None], both, slots)


def _rank(score: Float[Array, "I A"]) -> Int[Array, "I A"]:
  """How many entries of a row come before each, the largest first."""
  index = jnp.arange(score.shape[1])
  mine, other = score[:, :, None], score[:, None, :]
  earlier = (index[None, :] < index[:, None])[None]
  return jnp.sum((other > mine) | ((other == mine) & earlier), axis=-1)


def merge(
  x: Float[Array, "I S D"],
  sizes: Float[Array, "I S"],
  destination: Int[Array, "I S"],
) -> tuple[Float[Array, "I S D"], Float[Array, "I S"]]:
  """Size-weighted means of the tokens that share a destination, and sizes.

  A product with a one-hot matrix: no sort, gather or scatter. Sizes are
  float32 and exact; a token that joins no other is copied exactly.
  """
  slots = jnp.arange(x.shape[1])
  goes = destination[:, :, None] == slots[None, None, :]
  share = jnp.where(goes, sizes[:, :, None], 0.0)
  new_sizes = jnp.sum(share, axis=1)
  share /= jnp.maximum(new_sizes, 1.0)[:, None, :]
  x = jnp.einsum("ist,isd->itd", share.astype(x.dtype), x, precision="highest")
  return x, new_sizes
