"""Splash attention on TPU: blocks that nobody sees are never computed.

The kernel is JAX's own (jax.experimental.pallas.ops.tpu.splash_attention). It
computes who sees whom from indices, which `slots.sees` does for packed rows,
and tells real tokens from padding by segment ids.
"""

import dataclasses
import functools
import itertools
from typing import NamedTuple

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
MOST_PADDING = 4  # lanes, of lengths that are tried
DATA_LANES = 4  # in one whose mask is data: pairs are short in their row
STEPS = 280, 300  # instructions of each block of the grid, seen or not
WORTH = 9 / 8  # of the cheapest tiling's cost, for the fewest scores


class Schedule(NamedTuple):
  """Instructions that libtpu 0.0.52 schedules for a chip and heads of 128.

  forward, backward: of a block that is seen, of 1, 2 ... lanes a side. row:
  while memory reads a row of one part of dq, of 256 bytes.
  """

  forward: tuple[int, ...]
  backward: tuple[int, ...]
  row: float


V4 = Schedule(
  (302, 607, 1998, 2707, 6040, 8512), (339, 1161, 2767, 4796, 6946, 10410), 0.22
)
V5E = Schedule(
  (297, 586, 1473, 1814, 3203, 4808), (351, 986, 1722, 3357, 4815, 6940), 0.47
)
V5P = V5E._replace(row=0.16)  # its blocks come to the same within 3 %
V6E = Schedule(
  (255, 679, 1108, 1745, 3403, 4369), (346, 930, 1584, 2502, 3860, 5306), 0.27
)
# By what JAX calls the devices; any other is taken for a v5e.
SCHEDULES = {
  "TPU v4": V4,
  "TPU v5 lite": V5E,
  "TPU v5": V5P,
  "TPU v5p": V5P,
  "TPU v6 lite": V6E,
  "TPU v6e": V6E,
}


class Tiling(NamedTuple):
  """Sides of the blocks of both kernels, and the length they divide."""

  forward: int
  backward: int
  length: int


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
  kind: str,
) -> Float[Array, "N T H h"]:
  """Attention of rows laid out as `slots` says, on one device of a kind.

  real: False for padding, which real tokens do not see. With a window, what
  is padded lies left of the prefix or right of a caption: distances are
  counted in indices. `interpret` emulates the kernel where there is no TPU.
  The backward pass finds the result and its log-sum-exp under the name
  "attended", if a remat policy saves it.
  """
  T = q.shape[1]
  tiles = tiling(T, slots, window, kind)
  short = tiles.length - T
  heads_first = functools.partial(_heads_first, pad=(short, 0))
  q_NHTh, k_NGTh, v_NGTh = map(heads_first, (q * scale, k, v))
  real_NT = jnp.pad(real.astype(jnp.int32), ((0, 0), (short, 0)))
  rule = RowMask(tiles.length, _shifted(slots, short), window)
  kernel = kernels.make_splash_mha_single_device(
    masks.MultiHeadMask([rule] * q.shape[2]),
    block_sizes=_block_sizes(tiles),
    attn_logits_soft_cap=softcap,
    residual_checkpoint_name="attended",
    interpret=interpret,
  )
  segments = kernels.SegmentIds(real_NT, real_NT)
  out_NHTh = jax.vmap(kernel)(q_NHTh, k_NGTh, v_NGTh, segments)
  return out_NHTh[:, :, short:].transpose(0, 2, 1, 3)


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
  tiles = row_tiling(T)
  short = tiles.length - T
  heads_first = functools.partial(_heads_first, pad=(0, short))
  rows = attention_xla.Rows(segments, positions, window)
  seen = attention_xla.view(rows, 0, T)
  beyond = jnp.arange(tiles.length) >= T
  seen_NTT = jnp.pad(seen, ((0, 0), (0, short), (0, short)))
  seen_NTT |= (beyond[:, None] & beyond[None])[None]

  def row(q_HTh, k_GTh, v_GTh, seen_TT):
    kernel = kernels.make_splash_mha_single_device(
      seen_TT[None],  # one for all heads
      block_sizes=_block_sizes(tiles),
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


def row_tiling(length: int) -> Tiling:
  """Blocks for rows of several pairs, of which no more is known."""
  lanes = -(-length // LANES)
  side = min(lanes, DATA_LANES)
  padded = -(-lanes // side) * side
  return Tiling(side * LANES, side * LANES, padded * LANES)


def _heads_first(x_NTHh, pad):
  x_NHTh = x_NTHh.transpose(0, 2, 1, 3)
  return jnp.pad(x_NHTh, ((0, 0), (0, 0), pad, (0, 0)))


def _shifted(slots, short):
  """The same slots behind `short` more positions of padding."""
  if slots is None:
    return None
  return dataclasses.replace(slots, prefix=slots.prefix + short)


def _block_sizes(tiles):
  """One kernel goes back: scores and their gradients are computed once.

  It writes dq in as many parts as there are blocks of keys, in q's dtype.
  """
  return kernels.BlockSizes(
    block_q=tiles.forward,
    block_kv=tiles.forward,
    block_q_dkv=tiles.backward,
    block_kv_dkv=tiles.backward,
    use_fused_bwd_kernel=True,
  )


@functools.lru_cache
def tiling(
  length: int, slots: Slots | None, window: int | None, kind: str
) -> Tiling:
  """Blocks for rows of a length, which is padded at its beginning.

  kind: what JAX calls the device. Of those that cost at most WORTH of the
  cheapest, the one with the fewest scores. Costs are instructions as a compiler
  schedules them, without any waiting: no hardware has confirmed them. Small
  blocks skip more, and are scheduled worse.
  """
  forward, backward, row = SCHEDULES.get(kind, V5E)
  lanes = -(-length // LANES)
  found = []
  for count in range(lanes, lanes + min(lanes, MOST_PADDING)):
    seen = lanes_seen(length, count * LANES, slots, window)
    fitting = (n for n in range(1, len(forward) + 1) if count % n == 0)
    sides = {n: visited(seen, n) for n in fitting}
    for (f, met), (b, met_back) in itertools.product(sides.items(), repeat=2):
      cost = met * forward[f - 1] + (count // f) ** 2 * STEPS[0]
      step_back = STEPS[1] + row * b * LANES
      cost += met_back * backward[b - 1] + (count // b) ** 2 * step_back
      scores = 2 * met * f**2 + 5 * met_back * b**2
      tiles = Tiling(f * LANES, b * LANES, count * LANES)
      found.append((scores, cost, tiles))
  most = WORTH * min(cost for _, cost, _ in found)
  return min(one for one in found if one[1] <= most)[-1]


@functools.lru_cache
def lanes_seen(
  length: int, padded: int, slots: Slots | None, window: int | None
) -> Bool[np.ndarray, "l l"]:
  """Which blocks of LANES x LANES of a padded row anyone sees into."""
  slots, count = _shifted(slots, padded - length), padded // LANES
  seen = np.zeros((count, count), bool)
  index = np.arange(padded, dtype=np.int32)
  for n in range(count):
    query, key = index[n * LANES : (n + 1) * LANES], index[: (n + 1) * LANES]
    strip = sees(slots, window, query[:, None], key[None])
    seen[n, : n + 1] = strip.reshape(LANES, n + 1, LANES).any(axis=(0, 2))
  return seen


def visited(seen: Bool[np.ndarray, "l l"], side: int) -> int:
  """Blocks of side x side entries that hold one that is seen."""
  count = len(seen) // side
  return int(seen.reshape(count, side, count, side).any(axis=(1, 3)).sum())
