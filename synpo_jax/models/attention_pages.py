"""Attention over pages: short runs of past keys that rows of queries share.

Every page is read once, whoever reads it: queries are gathered to their pages
(they are small), and what comes of the pages is added up by row. The
arithmetic is that of one softmax over all of a row's pages.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Bool, Float, Int

from synpo_jax.models.attention_xla import HIDDEN


class Pages(NamedTuple):
  """K pages of s keys, each read by up to c rows of queries.

  k, v: int8 where there are scales, one for each position and head.
  """

  k: Float[Array, "K s G h"]
  v: Float[Array, "K s G h"]
  k_scale: Float[Array, "K s G"] | None
  v_scale: Float[Array, "K s G"] | None
  mask: Bool[Array, "K s"]  # True at real tokens
  positions: Int[Array, "K s"]
  readers: Int[Array, "K c"]  # rows; a number beyond the last for none


class Part(NamedTuple):
  """A softmax over some of the keys, not yet divided by its total."""

  top: Float[Array, "N T G r"]  # the largest score
  total: Float[Array, "N T G r"]  # of exp(score - top)
  mixed: Float[Array, "N T G r h"]  # values by those weights


def part(
  q: Float[Array, "N T H h"],
  pages: Pages,
  positions: Int[Array, "N T"],
  window: Int[Array, ""] | int | None,
  scale: float,
  softcap: float | None,
) -> Part:
  """What the queries see in pages; a row without any has top HIDDEN."""
  N, T, H, h = q.shape
  (K, s, G, _), c = pages.k.shape, pages.readers.shape[1]
  readers = pages.readers.reshape(-1)
  q_KcTGrh = jnp.take(q, readers, axis=0, mode="clip")
  q_KcTGrh = q_KcTGrh.reshape(K, c, T, G, H // G, h)
  scores = jnp.einsum(
    "kctgrh,ksgh->kctgrs",
    q_KcTGrh,
    pages.k.astype(q.dtype),
    preferred_element_type=jnp.float32,
  )
  scores = scores * scale
  if pages.k_scale is not None:
    scores = scores * _over_keys(pages.k_scale)
  if softcap is not None:
    scores = softcap * jnp.tanh(scores / softcap)
  view = _view(pages, positions, window).reshape(K, c, T, 1, 1, s)
  scores = jnp.where(view, scores, HIDDEN)
  top = jnp.max(scores, axis=-1)
  weights = jnp.exp(scores - top[..., None])
  total = jnp.sum(weights, axis=-1)
  if pages.v_scale is not None:
    weights = weights * _over_keys(pages.v_scale)
  mixed = jnp.einsum(
    "kctgrs,ksgh->kctgrh",
    weights.astype(q.dtype),
    pages.v.astype(q.dtype),
    preferred_element_type=jnp.float32,
  )
  flat = (x.reshape(K * c, *x.shape[2:]) for x in (top, total, mixed))
  return _by_row(Part(*flat), readers, N)


def _over_keys(scale: Float[Array, "K s G"]) -> Float[Array, "K 1 1 G 1 s"]:
  return jnp.swapaxes(scale, 1, 2)[:, None, None, :, None]


def _view(pages, positions, window) -> Bool[Array, "K c T s"]:
  """Which keys of its pages a reader sees."""
  K, s = pages.mask.shape
  shape = (*pages.readers.shape, positions.shape[1], s)
  view = jnp.broadcast_to(pages.mask[:, None, None], shape)
  if window is None:
    return view
  queries = jnp.take(positions, pages.readers, axis=0, mode="clip")
  behind = queries[..., None] - pages.positions[:, None, None]
  return view & (behind < window)


def _by_row(parts: Part, readers: Int[Array, " F"], N: int) -> Part:
  """Parts of F readers of pages, as parts of the N rows that they are."""
  mine = readers[None] == jnp.arange(N)[:, None]
  mine = mine[:, :, None, None, None]
  tops = jnp.where(mine, parts.top[None], HIDDEN)
  top = jnp.max(tops, axis=1)
  weights = jnp.where(mine, jnp.exp(tops - top[:, None]), 0.0)
  total = jnp.sum(weights * parts.total[None], axis=1)
  mixed = jnp.einsum(
    "nftgr,ftgrh->ntgrh", weights, parts.mixed, precision=Precision.HIGHEST
  )
  return Part(top, total, mixed)


def joined(parts: list[Part], dtype) -> Float[Array, "N T H h"]:
  """One softmax over what all parts saw."""
  top, total, mixed = parts[0]
  for other in parts[1:]:
    most = jnp.maximum(top, other.top)
    here, there = jnp.exp(top - most), jnp.exp(other.top - most)
    total = total * here + other.total * there
    mixed = mixed * here[..., None] + other.mixed * there[..., None]
    top = most
  out = mixed / total[..., None]
  N, T, G, r, h = out.shape
  return out.reshape(N, T, G * r, h).astype(dtype)
