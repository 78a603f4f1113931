"""Causal attention in strips of queries, for platforms without a kernel.

A strip meets only the keys before its end, so nothing above the diagonal is
computed but its last block, and only one strip of scores exists at a time.
The backward pass recomputes a strip's weights from the saved log-sum-exp, as
FlashAttention does (Dao et al. 2022, arXiv 2205.14135). What is as large as a
strip's scores is the right operand of a product over queries: XLA copies the
left one, transposed.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from synpo_jax.models.packed_rows import prompt_of

HIDDEN = -1e30  # a score no softmax notices; finite, so an empty row is too
MOST_STRIPS = 8
SHORTEST_STRIP = 64


class Rows(NamedTuple):
  """Who may see whom."""

  segments: Int[Array, "N T"]
  positions: Int[Array, "N T"]
  window: Int[Array, ""] | int | None  # positions that are seen back


def attend(
  q: Float[Array, "N T H h"],
  k: Float[Array, "N T G h"],
  v: Float[Array, "N T G h"],
  *,
  segments: Int[Array, "N T"],
  positions: Int[Array, "N T"],
  window: int | Int[Array, ""] | None,
  scale: float,
  softcap: float | None,
) -> Float[Array, "N T H h"]:
  """What `attention.attend` promises, for rows without a past.

  Under the name "attended" a remat policy saves what the backward pass needs.
  """
  N, T, H, h = q.shape
  G = k.shape[2]
  window = None if window is None else jnp.asarray(window, jnp.int32)
  q_NGrTh = q.reshape(N, T, G, H // G, h).transpose(0, 2, 3, 1, 4)
  k_NGTh, v_NGTh = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
  rows = Rows(segments, positions, window)
  out_NGrTh = _attend(scale, softcap, q_NGrTh, k_NGTh, v_NGTh, rows)
  return out_NGrTh.transpose(0, 3, 1, 2, 4).reshape(N, T, H, h)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(scale, softcap, q, k, v, rows):
  return _forward(scale, softcap, q, k, v, rows)[0]


def _forward(scale, softcap, q, k, v, rows):
  outs, lses = [], []
  for start, stop in _strips(q.shape[3]):
    scores = _scores(scale, softcap, q, k, rows, start, stop)
    top = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    mixed = jnp.einsum(
      "ngrts,ngsh->ngrth",
      weights.astype(v.dtype),
      v[:, :, :stop],
      preferred_element_type=jnp.float32,
    )
    outs.append((mixed / total).astype(q.dtype))
    lses.append(top + jnp.log(total))
  out = checkpoint_name(jnp.concatenate(outs, axis=3), "attended")
  lse_NGrT1 = checkpoint_name(jnp.concatenate(lses, axis=3), "attended")
  return out, (q, k, v, rows, out, lse_NGrT1)


def _backward(scale, softcap, saved, g):
  q, k, v, rows, out, lse = saved
  f32 = jnp.float32
  dq = []
  dk_NGhT = dv_NGhT = jnp.zeros(k.swapaxes(2, 3).shape, f32)
  delta = jnp.sum(g.astype(f32) * out.astype(f32), axis=-1, keepdims=True)
  for start, stop in _strips(q.shape[3]):
    strip = (slice(None),) * 3 + (slice(start, stop),)
    scores = _scores(scale, softcap, q, k, rows, start, stop)
    weights = jnp.exp(scores - lse[strip])
    dv_part = _einsum("ngrth,ngrts->nghs", g[strip], weights.astype(g.dtype))
    dweights = _einsum("ngrth,ngsh->ngrts", g[strip], v[:, :, :stop])
    dscores = weights * (dweights - delta[strip]) * scale
    if softcap is not None:
      capped = jnp.where(scores == HIDDEN, 0.0, scores)
      dscores *= 1 - (capped / softcap) ** 2
    dscores = dscores.astype(q.dtype)
    dq.append(_einsum("ngrts,ngsh->ngrth", dscores, k[:, :, :stop]))
    dk_part = _einsum("ngrth,ngrts->nghs", q[strip], dscores)
    dk_NGhT = dk_NGhT.at[..., :stop].add(dk_part)
    dv_NGhT = dv_NGhT.at[..., :stop].add(dv_part)
  dq = jnp.concatenate(dq, axis=3).astype(q.dtype)
  dk, dv = dk_NGhT.swapaxes(2, 3), dv_NGhT.swapaxes(2, 3)
  return dq, dk.astype(k.dtype), dv.astype(v.dtype), None


_attend.defvjp(_forward, _backward)
_einsum = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _strips(length):
  """(start, stop) of each strip of queries; at most MOST_STRIPS of them."""
  size = max(SHORTEST_STRIP, -(-length // MOST_STRIPS))
  return [(i, min(i + size, length)) for i in range(0, length, size)]


def _scores(scale, softcap, q, k, rows, start, stop):
  """Float32 scores [N, G, r, t, stop] of queries start..stop."""
  scores = _einsum("ngrth,ngsh->ngrts", q[:, :, :, start:stop], k[:, :, :stop])
  scores = scores * scale
  if softcap is not None:
    scores = softcap * jnp.tanh(scores / softcap)
  view_NtS = view(rows, start, stop)
  return jnp.where(view_NtS[:, None, None], scores, HIDDEN)


def view(rows: Rows, start: int, stop: int) -> Bool[Array, "N t S"]:
  """Which keys before `stop` the queries start..stop see; S is stop."""
  queries = rows.segments[:, start:stop, None]
  keys = rows.segments[:, None, :stop]
  view = keys == prompt_of(queries)
  view |= (keys == queries) & (keys != 0)
  order = jnp.arange(start, stop)[:, None] >= jnp.arange(stop)[None]
  view &= order[None]
  if rows.window is None:
    return view
  near = rows.positions[:, start:stop, None] - rows.positions[:, None, :stop]
  return view & (near < rows.window)
