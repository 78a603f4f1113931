"""The device side of generation: read the prompts, then fill block by block.

Rows are (video b, stream s, candidate c); see `synpo_jax.generation.decode`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from synpo_jax.generation import sampling
from synpo_jax.generation.sampling import Sampling
from synpo_jax.models.captioner import visual_embeddings
from synpo_jax.models.decoder import KV, Pages

ROWS = (1, 1, 0, 0)  # the axis of rows in each array of a KV


class Prompts(NamedTuple):
  """B prompts to go on from, C times each.

  NumPy on the host, JAX on devices. prefix: padded on the left, its mask True
  at real tokens. At most one of frames, features (what the tower makes of
  frames) and visual (what the decoder reads of features) stands behind its
  IMAGE_TOKENs. tail: how each candidate's prompt goes on, also padded on the
  left, where prompts differ that have a prefix in common.
  """

  prefix: Int[Any, "B P"]
  prefix_mask: Bool[Any, "B P"]
  frames: UInt8[Any, "B F Y X 3"] | None = None
  features: Float[Any, "B S K Dv"] | None = None
  visual: Float[Any, "B M D"] | None = None
  tail: Int[Any, "B C Q"] | None = None
  tail_mask: Bool[Any, "B C Q"] | None = None


class Choice(NamedTuple):
  """How a token is chosen; compiled in."""

  sampling: Sampling
  eos_ids: tuple[int, ...]
  cutoff: float | None


class State(NamedTuple):
  """Everything between two blocks."""

  past: tuple[KV, ...]  # prompt, tail and filled blocks
  token: Int[Array, "B C"]  # chosen, not yet read by the model
  done: Bool[Array, "B C"]  # whether the row has ended
  place: Int[Array, "B S C"]  # position of a row's token 0
  step: Int[Array, ""]  # tokens chosen so far
  candidate: Int[Array, "B C"]  # its number; others may have been dropped
  keys: Key[Array, "B"]
  weight: Float[Array, "B"]  # of each video's contrast


def prefill(
  model, variables, prompts: Prompts
) -> tuple[KV, Int[Array, "B"], Float[Array, "B V"]]:
  """Reads prompts: (caches, next positions, logits)."""
  apply = partial(model.apply, variables)
  tokens, mask = prompts.prefix, prompts.prefix_mask
  visual = prompts.visual
  if visual is None:
    visual = visual_embeddings(
      model, variables, prompts.frames, prompts.features
    )
  x = apply(tokens, visual, method="embed")
  positions, place = apply(tokens, mask, method="positions")
  segments = mask.astype(jnp.int32)
  hidden, kv = apply(x, positions, segments, method="decode")
  return kv, place, apply(hidden[:, -1], method="logits")


def read_tokens(
  model,
  variables,
  tokens: Int[Array, "N T"],
  mask: Bool[Array, "N T"],
  place: Int[Array, "N"],
  past: tuple[KV | Pages, ...],
) -> tuple[KV, Float[Array, "N V"]]:
  """Reads tokens behind `past`: (caches, logits).

  mask: True at real tokens, the last of which ends the row. place: position
  of a row's first real token.
  """
  apply = partial(model.apply, variables)
  x = apply(tokens, None, method="embed")
  positions, _ = apply(tokens, mask, method="positions")
  positions += place.reshape(-1, *(1,) * (positions.ndim - 1))
  segments = mask.astype(jnp.int32)
  hidden, kv = apply(x, positions, segments, past, method="decode")
  return kv, apply(hidden[:, -1], method="logits")


@partial(jax.jit, static_argnames=("model", "candidates", "choice"))
def begin(
  model,
  variables,
  prompts: Prompts,
  weak: Prompts | None,
  keys: Key[Array, "B"],
  weight: Float[Array, "B"],
  candidates: int,
  choice: Choice,
) -> tuple[State, Float[Array, "B C"]]:
  """Reads the prompts, chooses token 0: (state, its log-probs).

  weak: the second stream of contrastive decoding, None for none.
  """
  B, C = prompts.prefix.shape[0], candidates
  kv, place, logits = prefill(model, variables, prompts)
  place, logits = place[:, None], logits[:, None]
  if weak is not None:
    second, *rest = prefill(model, variables, weak)
    kv = _interleave(kv, second)
    place, logits = (
      jnp.concatenate([a, b[:, None]], axis=1)
      for a, b in zip((place, logits), rest, strict=True)
    )
  S, V = logits.shape[1:]
  past, place = (kv,), jnp.broadcast_to(place[..., None], (B, S, C))
  if prompts.tail is not None:
    tail, place, logits = _read_tails(model, variables, prompts, place, past)
    past = (*past, tail)
  else:
    logits = jnp.broadcast_to(logits[:, :, None], (B, S, C, V))
  candidate = jnp.broadcast_to(jnp.arange(C, dtype=jnp.int32)[None], (B, C))
  token, done = jnp.zeros((B, C), jnp.int32), jnp.zeros((B, C), bool)
  step = jnp.int32(0)
  state = State(past, token, done, place, step, candidate, keys, weight)
  return _choose(state, logits, choice)


def _read_tails(model, variables, prompts, place, past):
  """Reads what candidates do not share: (caches, next places, logits)."""
  B, S, C = place.shape
  tail, mask = (
    jnp.repeat(x[:, None], S, axis=1).reshape(B * S * C, -1)
    for x in (prompts.tail, prompts.tail_mask)
  )
  kv, logits = read_tokens(
    model, variables, tail, mask, place.reshape(-1), past
  )
  length = mask.sum(axis=1, dtype=jnp.int32).reshape(place.shape)
  return kv, place + length, logits.reshape(B, S, C, -1)


def fill(model, variables, state: State, size: int, choice: Choice):
  """Adds a block: (state, (tokens [B,C,size], logps [B,C,size]))."""
  block, changed, new = _fill(model, variables, state, size, choice)
  return state._replace(past=(*state.past, block), **changed), new


@partial(jax.jit, static_argnames=("model", "size", "choice"))
def _fill(model, variables, state, size, choice):
  """The loop: read the last token, choose the next, until all are done."""
  B, S, C = state.place.shape
  first = state.step - 1  # number of the first token that is read
  slots = jnp.arange(size, dtype=jnp.int32)[None]
  place = state.place.reshape(-1, 1) + first + slots

  def unfinished(carry):
    now, *_ = carry
    return (now.step - first <= size) & ~jnp.all(now.done)

  def body(carry):
    now, k, v, *new = carry
    at = now.step - 1 - first
    written = jnp.broadcast_to(slots < at, place.shape)
    row = jnp.repeat(now.token[:, None], S, axis=1).reshape(-1, 1)
    kv, logits = read_tokens(
      model,
      variables,
      row,
      jnp.ones(row.shape, bool),
      jax.lax.dynamic_index_in_dim(place, at, 1, keepdims=False),
      (*state.past, KV(k, v, written, place)),
    )
    k = jax.lax.dynamic_update_slice_in_dim(k, kv.k, at, axis=2)
    v = jax.lax.dynamic_update_slice_in_dim(v, kv.v, at, axis=2)
    now, logps = _choose(now, logits.reshape(B, S, C, -1), choice)
    new = (
      jax.lax.dynamic_update_index_in_dim(out, column, at, 2)
      for out, column in zip(new, (now.token, logps), strict=True)
    )
    return now, k, v, *new

  empty = (_empty(x, B * S * C, size) for x in state.past[0][:2])
  tokens = jnp.full((B, C, size), choice.eos_ids[0], jnp.int32)
  logps = jnp.zeros((B, C, size), jnp.float32)
  start = state._replace(past=()), *empty, tokens, logps
  now, k, v, *new = jax.lax.while_loop(unfinished, body, start)
  block = KV(k, v, jnp.ones(place.shape, bool), place)
  return block, dict(token=now.token, done=now.done, step=now.step), new


def _empty(like, rows, size):
  L, _, _, G, h = like.shape
  return jnp.zeros((L, rows, size, G, h), like.dtype)


def _choose(
  state: State, logits: Float[Array, "B S C V"], choice: Choice
) -> tuple[State, Float[Array, "B C"]]:
  """Step `state.step`: (state, logps); ended rows get EOS and 0."""
  B, S, C, V = logits.shape
  rows = logits[:, 0].reshape(B * C, V)
  if S == 2:
    weak = logits[:, 1].reshape(B * C, V)
    weight = jnp.repeat(state.weight, C)
    rows = sampling.contrast(rows, weak, weight, choice.cutoff)
  fold = jax.vmap(jax.random.fold_in)
  keys = fold(jnp.repeat(state.keys, C), state.candidate.reshape(-1))
  keys = fold(keys, jnp.broadcast_to(state.step, (B * C,)))
  token = sampling.choose(keys, rows, choice.sampling, choice.eos_ids[0])
  logps = sampling.chosen_logps(rows, token).reshape(B, C)
  logps = jnp.where(state.done, 0.0, logps)
  token = jnp.where(state.done, choice.eos_ids[0], token.reshape(B, C))
  ended = jnp.isin(token, jnp.asarray(choice.eos_ids, jnp.int32))
  state = state._replace(
    token=token, done=state.done | ended, step=state.step + 1
  )
  return state, logps


def _interleave(full: KV, weak: KV) -> KV:
  """Caches of B + B rows as 2B rows, a video's two streams side by side."""
  P = max(full.mask.shape[1], weak.mask.shape[1])

  def both(axis, a, b):
    a, b = _pad_left(a, axis + 1, P), _pad_left(b, axis + 1, P)
    shape = (*a.shape[:axis], 2 * a.shape[axis], *a.shape[axis + 1 :])
    return jnp.stack([a, b], axis=axis + 1).reshape(shape)

  return KV(*map(both, ROWS, full, weak))


def _pad_left(x, axis, length):
  pads = [(0, 0)] * x.ndim
  pads[axis] = (length - x.shape[axis], 0)
  return jnp.pad(x, pads)


@jax.jit
def take(state: State, videos: Int[Array, "b"], slots: Int[Array, "b c"]):
  """The state of some videos and, of each, some candidates."""
  B, S, C = state.place.shape
  b, c = slots.shape
  streams = videos[:, None] * S + jnp.arange(S)[None]
  rows = streams[:, :, None] * C + slots[:, None]

  def cut(kv):
    index = streams if kv.mask.shape[0] == B * S else rows
    index = index.reshape(-1)
    return KV(
      *(jnp.take(x, index, axis) for x, axis in zip(kv, ROWS, strict=True))
    )

  def pick(x):
    return jnp.take_along_axis(x[videos], slots, axis=1)

  place = state.place.reshape(-1)[rows]
  return State(
    tuple(map(cut, state.past)),
    pick(state.token),
    pick(state.done),
    place,
    state.step,
    pick(state.candidate),
    state.keys[videos],
    state.weight[videos],
  )
