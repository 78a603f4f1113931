"""Attention over a row's own keys and over read-only blocks of past keys."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from synpo_jax.models import causal
from synpo_jax.models.causal import HIDDEN


class Past(NamedTuple):
  """Keys of earlier positions: M rows, each read by N / M rows of queries.

  k, v [M, S, G, h]; mask bool [M, S]; positions int32 [M, S].
  """

  k: Array
  v: Array
  mask: Array
  positions: Array


def attend(
  q: Float[Array, "N T H h"],
  k: Float[Array, "N T G h"],
  v: Float[Array, "N T G h"],
  *,
  segments: Int[Array, "N T"],
  positions: Int[Array, "N T"],
  past: tuple[Past, ...] = (),
  window: int | Int[Array, ""] | None = None,
  scale: float,
  softcap: float | None = None,
  backend: str = "xla",
) -> Float[Array, "N T H h"]:
  """Softmax attention; q's dtype, scores and softmax in float32.

  Query i sees its own row's key j iff j <= i, segment_j is 1 or segment_i
  (never 0, padding), and every real key of its past rows. With a window it
  sees only keys whose position is less than `window` behind its own. H query
  heads share G key heads, G dividing H; keys are never repeated. A query that
  sees nothing gets finite values.
  """
  if backend != "xla":
    raise ValueError(f"attention backend {backend!r} is not known; use 'xla'")
  rows = dict(segments=segments, positions=positions, window=window)
  if not past:
    return causal.attend(q, k, v, **rows, scale=scale, softcap=softcap)
  own = Past(k, v, segments > 0, positions)
  views = [_own_view(**rows)]
  views += [_past_view(block, positions, window) for block in past]
  return _over_blocks(q, (own, *past), views, scale, softcap)


def _over_blocks(q, blocks, views, scale, softcap):
  scores = [
    _scores(q, block.k, view, scale, softcap)
    for block, view in zip(blocks, views, strict=True)
  ]
  return _mix(scores, [block.v for block in blocks], q.dtype)


def _own_view(segments, positions, window) -> Bool[Array, "N T S"]:
  T = segments.shape[1]
  queries, keys = segments[:, :, None], segments[:, None, :]
  view = (keys == 1) | ((keys == queries) & (keys != 0))
  view &= jnp.tril(jnp.ones((T, T), bool))[None]
  return view & _near(positions[:, :, None], positions[:, None, :], window)


def _past_view(block, positions, window) -> Bool[Array, "N T S"]:
  repeats = positions.shape[0] // block.mask.shape[0]
  mask = jnp.repeat(block.mask, repeats, axis=0)[:, None, :]
  keys = jnp.repeat(block.positions, repeats, axis=0)[:, None, :]
  view = mask & _near(positions[:, :, None], keys, window)
  return jnp.broadcast_to(view, (*positions.shape, mask.shape[-1]))


def _near(queries, keys, window):
  return True if window is None else queries - keys < window


def _scores(q, k, view, scale, softcap) -> Float[Array, "M G c T r S"]:
  """Float32 scores; c rows of queries share a row of keys, r heads a head."""
  N, T, H, h = q.shape
  M, S, G, _ = k.shape
  q_McTGrh = q.reshape(M, N // M, T, G, H // G, h)
  scores = jnp.einsum(
    "mctgrh,msgh->mgctrs", q_McTGrh, k, preferred_element_type=jnp.float32
  )
  scores = scores * scale
  if softcap is not None:
    scores = softcap * jnp.tanh(scores / softcap)
  view_M1cT1S = view.reshape(M, 1, N // M, T, 1, S)
  return jnp.where(view_M1cT1S, scores, HIDDEN)


def _mix(scores, values, dtype) -> Float[Array, "N T H h"]:
  """One softmax over all blocks, which are never copied together."""
  tops = [_rows(jnp.max(s, axis=-1)) for s in scores]
  top_NTGr = jax.lax.stop_gradient(jnp.stack(tops).max(axis=0))
  total, mixed = 0.0, 0.0
  for s, v in zip(scores, values, strict=True):
    M, G, c, T, r, _ = s.shape
    top = top_NTGr.reshape(M, c, T, G, r).transpose(0, 3, 1, 2, 4)
    weights = jnp.exp(s - top[..., None])
    total += _rows(jnp.sum(weights, axis=-1))
    part = jnp.einsum(
      "mgctrs,msgh->mctgrh",
      weights.astype(v.dtype),
      v,
      preferred_element_type=jnp.float32,
    )
    mixed += part.reshape(M * c, T, G, r, -1)
  out = mixed / total[..., None]
  N, T, G, r, h = out.shape
  return out.reshape(N, T, G * r, h).astype(dtype)


def _rows(values_MGcTr) -> Float[Array, "N T G r"]:
  M, G, c, T, r = values_MGcTr.shape
  return values_MGcTr.transpose(0, 2, 3, 1, 4).reshape(M * c, T, G, r)
