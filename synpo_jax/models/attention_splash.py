"""Splash attention on TPU: blocks that nobody sees are never computed.

The kernel is JAX's own (jax.experimental.pallas.ops.tpu.splash_attention). It
computes who sees whom from indices, which `slots.sees` does for packed rows,
and tells real tokens from padding by segment ids.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_kernel as kernels,
)
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_mask as masks,
)
from jaxtyping import Array, Bool, Float, Int

from synpo_jax.models import attention_xla
from synpo_jax.models.packed_rows import Slots, sees

LANES = 128  # blocks are multiples of it
MOST_LANES = 8  # in a block: its scores still fit a core's memory
DATA_LANES = 4  # in one whose mask is data: pairs are short in their row
# What a block costs besides its scores, as scores: 0.35 us of a grid step
# (Pallas documentation) is 367 x 367 scores of a 128-wide head at 197 TFLOP/s.
STEP = 367**2


class RowMask(masks._ComputableMask):
  """`slots.sees` in the form that the kernel evaluates for itself."""

  def __init__(self, length: int, slots: Slots | None, window: int | None):
    self.rule = (length, slots, window)
    super().__init__((length, length), functools.partial(sees, slots, window))

  def __eq__(self, other):
    return isinstance(other, RowMask) and self.rule == other.rule

  def __hash__(self):
    return hash(self.rule)


def attend(
  q: Float[Array, "N T H h"],
  k: Float[Array, "N T G h"],
  v: Float[Array, "N T G h"],
  real: Bool[Array, "N T"],
  *,
  slots: Slots | None,
  window: int | None,
  scale: float,
  softcap: float | None,
  interpret: bool,
) -> Float[Array, "N T H h"]:
  """Attention of rows laid out as `slots` says, on one device.

  real: False for padding, which real tokens do not see. With a window, what
  is padded lies left of the prefix or right of a caption: distances are
  counted in indices. `interpret` emulates the kernel where there is no TPU.
  The backward pass finds the result and its log-sum-exp under the name
  "attended", if a remat policy saves it.
  """
  T = q.shape[1]
  block, length = tiling(T, slots, window)
  heads_first = functools.partial(_heads_first, length=length)
  q_NHTh, k_NGTh, v_NGTh = map(heads_first, (q * scale, k, v))
  real_NT = jnp.pad(real.astype(jnp.int32), ((0, 0), (0, length - T)))
  mask = masks.MultiHeadMask([RowMask(length, slots, window)] * q.shape[2])
  kernel = kernels.make_splash_mha_single_device(
    mask,
    block_sizes=_block_sizes(block),
    attn_logits_soft_cap=softcap,
    residual_checkpoint_name="attended",
    interpret=interpret,
  )
  segments = kernels.SegmentIds(real_NT, real_NT)
  out_NHTh = jax.vmap(kernel)(q_NHTh, k_NGTh, v_NGTh, segments)
  return out_NHTh[:, :, :T].transpose(0, 2, 1, 3)


def attend_pairs(
  q: Float[Array, "N T H h"],
  k: Float[Array, "N T G h"],
  v: Float[Array, "N T G h"],
  segments: Int[Array, "N T"],
  positions: Int[Array, "N T"],
  *,
  window: int | Int[Array, ""] | None,
  scale: float,
  softcap: float | None,
  interpret: bool,
) -> Float[Array, "N T H h"]:
  """Attention of rows of several pairs, on one device.

  Who sees whom is data, a mask of each row that all heads read by blocks;
  those that nobody sees are skipped.
  """
  T = q.shape[1]
  block, length = row_tiling(T)
  heads_first = functools.partial(_heads_first, length=length)
  short = length - T
  rows = attention_xla.Rows(segments, positions, window)
  seen = attention_xla.view(rows, 0, T)
  beyond = jnp.arange(length) >= T
  seen_NTT = jnp.pad(seen, ((0, 0), (0, short), (0, short)))
  seen_NTT |= (beyond[:, None] & beyond[None])[None]

  def row(q_HTh, k_GTh, v_GTh, seen_TT):
    kernel = kernels.make_splash_mha_single_device(
      seen_TT[None],  # one for all heads
      block_sizes=_block_sizes(block),
      attn_logits_soft_cap=softcap,
      residual_checkpoint_name="attended",
      interpret=interpret,
    )
    # It asks this of itself, and would find an array under a trace.
    told = kernel.fwd_mask_info._replace(is_dynamic_mask=True)
    kernel.fwd_mask_info = told
    return kernel(q_HTh, k_GTh, v_GTh)

  heads = *map(heads_first, (q * scale, k, v)), seen_NTT
  out_NHTh = jnp.stack([row(*one) for one in zip(*heads, strict=True)])
  return out_NHTh[:, :, :T].transpose(0, 2, 1, 3)


def row_tiling(length: int) -> tuple[int, int]:
  """(side of a block, the length it divides) for rows of several pairs."""
  lanes = -(-length // LANES)
  side = min(lanes, DATA_LANES)
  return side * LANES, -(-lanes // side) * side * LANES


def _heads_first(x_NTHh, length):
  x_NHTh = x_NTHh.transpose(0, 2, 1, 3)
  short = length - x_NHTh.shape[2]
  return jnp.pad(x_NHTh, ((0, 0), (0, 0), (0, short), (0, 0)))


def _block_sizes(block):
  return kernels.BlockSizes(
    block_q=block,
    block_kv=block,
    block_q_dkv=block,
    block_kv_dkv=block,
    block_q_dq=block,
    block_kv_dq=block,
  )


@functools.lru_cache
def tiling(
  length: int, slots: Slots | None, window: int | None
) -> tuple[int, int]:
  """(side of a block, the length it divides) for rows of a length.

  The cheapest by count: each block that anyone sees into costs its scores and
  a step of the grid. Large blocks save steps, small ones skip more and need
  less padding. No hardware has confirmed it.
  """
  lanes = -(-length // LANES)
  index = np.arange(lanes * LANES)
  seen = sees(slots, window, index[:, None], index[None, :])
  costs = {}
  for side in range(1, min(lanes, MOST_LANES) + 1):
    padded = -(-lanes // side) * side
    wide = np.pad(seen, (0, (padded - lanes) * LANES))
    tiles = wide.reshape(padded // side, side * LANES, -1, side * LANES)
    visited = tiles.any(axis=(1, 3)).sum()
    costs[side, padded] = visited * ((side * LANES) ** 2 + STEP)
  side, padded = min(costs, key=costs.get)
  return side * LANES, padded * LANES
