"""The device side of refilled generation: prompts, tails and blocks in pages.

Two pools of pages are made before anything is read: one for prompts, each read
by up to C rows, and one for what rows have of their own, tails and what they
generated. Nothing else grows. A row of the model is (row n, stream s), with
two streams under contrastive decoding.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8, UInt32

from synpo_jax.generation import sampling
from synpo_jax.generation.decode_loop import Choice, read_tokens
from synpo_jax.models import int8
from synpo_jax.models.decoder import KV, Pages

TAIL_STEP = 128  # tokens of a tail that are read at once


class Rows(NamedTuple):
  """Rows that grow together, each at a step of its own."""

  token: Int[Array, " N"]  # chosen, or the prompt's last; not yet read
  done: Bool[Array, " N"]  # ended, or no row at all
  place: Int[Array, "N S"]  # position of the row's token 0
  step: Int[Array, " N"]  # tokens chosen so far
  candidate: Int[Array, " N"]
  keys: UInt32[Array, "N 2"]  # of the row's video
  weight: Float[Array, " N"]  # of its contrast


class Readers(NamedTuple):
  """Who reads each page: rows n * S + s; a number beyond for nobody."""

  prompts: Int[Array, "K C"]
  own: Int[Array, "L 1"]


class Tails(NamedTuple):
  """How the C prompts of b videos go on, behind pages that they share."""

  prompt: Int[Array, "b n"]  # pages of the prompt; a number beyond for none
  tokens: Int[Array, "b C Q"]  # padded on the left
  mask: Bool[Array, "b C Q"]
  place: Int[Array, " b"]  # position of a tail's first token
  pages: Int[Array, "b C p"]  # where they go; a number beyond for nowhere


def empty(model, pages: int, size: int, quantised: bool) -> Pages:
  """A pool of so many pages of `size` positions; int8 if `quantised`."""
  c = model.config.decoder
  shape = (c.layers, pages, size, c.kv_heads, c.head_dim)
  kind = jnp.int8 if quantised else model.dtype
  scales = [jnp.zeros(shape[:-1], jnp.float32)] * 2 if quantised else [None] * 2
  mask, positions = jnp.zeros(shape[1:3], bool), jnp.zeros(shape[1:3], int)
  k, v = jnp.zeros(shape, kind), jnp.zeros(shape, kind)
  return Pages(k, v, *scales, mask, positions.astype(jnp.int32), None)


def stored(pool: Pages, kv: KV, pages: Int[Array, "N p"]) -> Pages:
  """The pool with the keys of N rows of p pages each in those pages."""
  K, s = pool.mask.shape
  pages = pages.reshape(-1)

  def cut(x, axis):
    return x.reshape(*x.shape[:axis], -1, s, *x.shape[axis + 2 :])

  def put(pool, new, axis):
    where = (slice(None),) * axis + (pages,)
    return pool.at[where].set(cut(new, axis), mode="drop")

  k, v, scales = kv.k, kv.v, (None, None)
  if pool.k_scale is not None:
    (k, k_scale), (v, v_scale) = int8.quantise_heads(k), int8.quantise_heads(v)
    scales = put(pool.k_scale, k_scale, 1), put(pool.v_scale, v_scale, 1)
  return Pages(
    put(pool.k, k, 1),
    put(pool.v, v, 1),
    *scales,
    put(pool.mask, kv.mask, 0),
    put(pool.positions, kv.positions, 0),
    None,
  )


@partial(jax.jit, static_argnames=("model", "length"))
def look(
  model, variables, frames: UInt8[Any, "b F Y X 3"], length: int | None
) -> tuple[Float[Array, "M D"], ...]:
  """What the decoder reads of each clip, padded to `length` if one is given.

  Then prompts are read by the same program whatever the number of frames.
  """
  features = model.apply(variables, frames, method="encode")
  visual = model.apply(variables, features, method="connect")
  missing = 0 if length is None else max(0, length - visual.shape[1])
  if model.config.follow:  # what is cut off are frames that only fill up
    visual = visual[:, :length]
  # A learned embedding that closes the video stays the last.
  open_ = visual.shape[1] - model.config.connector.newline
  padded = jnp.pad(visual[:, :open_], ((0, 0), (0, missing), (0, 0)))
  return tuple(jnp.concatenate([padded, visual[:, open_:]], axis=1))


@partial(jax.jit, static_argnames="model", donate_argnames="pool")
def read_prompts(
  model,
  variables,
  pool: Pages,
  tokens: Int[Array, "b P"],
  mask: Bool[Array, "b P"],
  visual: tuple[Float[Array, "M D"], ...] | None,
  pages: Int[Array, "b p"],
) -> tuple[Pages, Int[Array, " b"]]:
  """Reads prompts, padded on the left, into pages: (pool, next positions)."""
  apply = partial(model.apply, variables)
  seen = None if visual is None else jnp.stack(visual)
  x = apply(tokens, seen, method="embed")
  positions, place = apply(tokens, mask, method="positions")
  segments = mask.astype(jnp.int32)
  _, kv = apply(x, positions, segments, method="decode")
  return stored(pool, kv, pages), place


@partial(jax.jit, static_argnames="model", donate_argnames="own")
def read_tails(
  model, variables, prompts: Pages, own: Pages, tails: Tails
) -> Pages:
  """Reads tails block by block into pages of `own`."""
  past = _gathered(prompts, tails.prompt, model.dtype)
  b, C, Q = tails.tokens.shape
  tokens, mask = (x.reshape(b * C, Q) for x in (tails.tokens, tails.mask))
  place = jnp.repeat(tails.place, C)
  count = jnp.cumsum(mask.astype(jnp.int32), axis=1)
  positions = place[:, None] + jnp.maximum(count - 1, 0)
  slots = jnp.arange(Q)[None]
  # Rows that end together: what only pads all of them is not read.
  first = jnp.argmax(mask.any(axis=0)) // TAIL_STEP

  def body(step, carry):
    k, v = carry
    at = step * TAIL_STEP

    def cut(x):
      return jax.lax.dynamic_slice_in_dim(x, at, TAIL_STEP, 1)

    before = jnp.sum(mask & (slots < at), axis=1, dtype=jnp.int32)
    read = KV(k, v, mask & (slots < at), positions)
    new, _ = read_tokens(
      model, variables, cut(tokens), cut(mask), place + before, (past, read)
    )
    update = jax.lax.dynamic_update_slice_in_dim
    return update(k, new.k, at, 2), update(v, new.v, at, 2)

  shape = (past.k.shape[0], b * C, Q, *past.k.shape[3:])
  nothing = (jnp.zeros(shape, model.dtype),) * 2
  k, v = jax.lax.fori_loop(first, Q // TAIL_STEP, body, nothing)
  pages = tails.pages.reshape(b * C, -1)
  return stored(own, KV(k, v, mask, positions), pages)


def _gathered(pool: Pages, pages: Int[Array, "b n"], dtype) -> KV:
  """Pages of b prompts side by side, as a block of b rows."""
  b, n = pages.shape
  K, s = pool.mask.shape

  def pick(x, axis):
    picked = jnp.take(x, pages.reshape(-1), axis=axis, mode="clip")
    return picked.reshape(*x.shape[:axis], b, n * s, *x.shape[axis + 2 :])

  k, v = pick(pool.k, 1), pick(pool.v, 1)
  if pool.k_scale is not None:
    k = (k * pick(pool.k_scale, 1)[..., None]).astype(dtype)
    v = (v * pick(pool.v_scale, 1)[..., None]).astype(dtype)
  real = jnp.repeat(pages < K, s, axis=1)
  return KV(k, v, pick(pool.mask, 0) & real, pick(pool.positions, 0))


@partial(
  jax.jit, static_argnames=("model", "size", "choice"), donate_argnames="own"
)
def fill(
  model,
  variables,
  prompts: Pages,
  own: Pages,
  readers: Readers,
  rows: Rows,
  pages: Int[Array, "NS 1"],
  size: int,
  choice: Choice,
) -> tuple[Pages, Int[Array, "N size"], Float[Array, "N size"], Int[Array, ""]]:
  """Grows rows by a block of `size` tokens: (own, tokens, logps, steps).

  pages: where each row's block goes. logps are at temperature 1, without
  filters. steps: fewer than `size` if all rows ended before.
  """
  N, S = rows.place.shape
  c = model.config.decoder
  prompts = prompts._replace(readers=readers.prompts)
  past = prompts, own._replace(readers=readers.own)
  slots = jnp.arange(size, dtype=jnp.int32)[None]
  place = (rows.place - 1 + rows.step[:, None]).reshape(-1, 1) + slots

  def unfinished(carry):
    at, now, *_ = carry
    return (at < size) & ~jnp.all(now.done)

  def body(carry):
    at, now, k, v, *new = carry
    token = jnp.repeat(now.token[:, None], S, axis=1).reshape(-1, 1)
    written = jnp.broadcast_to(slots < at, place.shape)
    kv, logits = read_tokens(
      model,
      variables,
      token,
      jnp.ones(token.shape, bool),
      jax.lax.dynamic_index_in_dim(place, at, 1, keepdims=False),
      (KV(k, v, written, place), *past),
    )
    k = jax.lax.dynamic_update_slice_in_dim(k, kv.k, at, axis=2)
    v = jax.lax.dynamic_update_slice_in_dim(v, kv.v, at, axis=2)
    now, logps = _next(now, logits.reshape(N, S, -1), choice)
    new = (
      jax.lax.dynamic_update_index_in_dim(out, column, at, 1)
      for out, column in zip(new, (now.token, logps), strict=True)
    )
    return at + 1, now, k, v, *new

  shape = (c.layers, N * S, size, c.kv_heads, c.head_dim)
  empty = jnp.zeros(shape, model.dtype)
  tokens = jnp.full((N, size), choice.eos_ids[0], jnp.int32)
  logps = jnp.zeros((N, size), jnp.float32)
  start = jnp.int32(0), rows, empty, empty, tokens, logps
  steps, _, k, v, tokens, logps = jax.lax.while_loop(unfinished, body, start)
  block = KV(k, v, jnp.ones(place.shape, bool), place)
  return stored(own, block, pages), tokens, logps, steps


def _next(
  rows: Rows, logits: Float[Array, "N S V"], choice: Choice
) -> tuple[Rows, Float[Array, " N"]]:
  """The next token of each row: (rows, logps); ended rows get EOS and 0."""
  mixed = logits[:, 0]
  if logits.shape[1] == 2:
    weak = logits[:, 1]
    mixed = sampling.contrast(mixed, weak, rows.weight, choice.cutoff)
  fold = jax.vmap(jax.random.fold_in)
  keys = fold(jax.random.wrap_key_data(rows.keys), rows.candidate)
  keys = fold(keys, rows.step)
  token = sampling.choose(keys, mixed, choice.sampling, choice.eos_ids[0])
  logps = jnp.where(rows.done, 0.0, sampling.chosen_logps(mixed, token))
  token = jnp.where(rows.done, choice.eos_ids[0], token)
  ended = jnp.isin(token, jnp.asarray(choice.eos_ids, jnp.int32))
  rows = rows._replace(token=token, done=rows.done | ended, step=rows.step + 1)
  return rows, logps
