"""Generation: a prompt is read once, then C candidates grow from its cache.

Every row is (video b, stream s, candidate c). There are two streams under
contrastive decoding, the full video and a poorer one, and one otherwise.
Caches are read-only blocks; the loop carries only the block it is filling:

  prompt [B*S rows] <- tail [B*S*C] <- block 0 [B*S*C] <- block 1 ...

Blocks grow (64, 64, 128, 256, 256, ...), so that early steps do not attend to
800 empty places, and each has its own compiled loop, made when it is first
needed. Between two blocks the host looks which rows have ended, and drops
them where that halves the videos or the candidates.

Videos to be captioned are not continued by this but by the engine that refills
ended rows (generation.engine), which needs a host that sees all rows. This is
for meshes that span processes, all of which get the same: captions while a run
trains (generation.batch_captions) and a judge's own language model
(evaluation.text_model). Its contrast is what the engine's is tested against.
"""

import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, Key, UInt32

from synpo_jax.generation import decode_loop
from synpo_jax.generation.decode_loop import Choice, Prompts
from synpo_jax.generation.sampling import Sampling, check
from synpo_jax.models import sharding

FIRST_BLOCK, LARGEST_BLOCK = 64, 256


class Contrast(NamedTuple):
  """The second stream of contrastive decoding.

  weight: (1 + weight) * full - weight * contrast; 0 turns a row's contrast
  off.
  """

  prompts: Prompts  # of the same videos; the tails are those of the full
  weight: Float[Array, "B"]
  cutoff: float | None  # see `sampling.contrast`


class Generated(NamedTuple):
  """What was generated, prompt not included.

  tokens: filled with EOS behind a row's end. lengths: tokens up to and with
  the first EOS, R where none came. logps: log-probability of each token at
  temperature 1, without filters, under the mixed logits where there is
  contrast; 0 behind a row's end.
  """

  tokens: Int[np.ndarray, "B C R"]
  lengths: Int[np.ndarray, "B C"]
  logps: Float[np.ndarray, "B C R"]


def generate(
  model,
  variables: dict,
  prompts: Prompts,
  keys: Key[Array, " B"],
  *,
  candidates: int,
  max_new_tokens: int,
  sampling: Sampling,
  eos_ids: tuple[int, ...],
  contrast: Contrast | None = None,
) -> Generated:
  """Continues every prompt C = `candidates` times.

  Args:
    model, variables: a Captioner and its variables, on a mesh or not. Where
      the mesh spans processes, all of them call this and get the same.
    prompts: with tails, candidate c goes on from prefix + tail c.
    keys: one per video (`row_keys`); candidate and step are folded in.
    max_new_tokens: R; a row ends with its first EOS or there.
    eos_ids: any of them ends a row; the first is the filler.
    contrast: a second stream, behind the same tails.

  Raises ValueError for settings that make no sense.
  """
  _check(candidates, max_new_tokens, sampling, eos_ids, contrast)
  B, C, R = prompts.prefix.shape[0], candidates, max_new_tokens
  weak, weight, cutoff = None, jnp.zeros(B, jnp.float32), None
  if contrast is not None:
    weak, weight, cutoff = contrast
    weight = jnp.asarray(weight, jnp.float32)
  choice = Choice(sampling, tuple(eos_ids), cutoff)
  tokens = np.full((B * C, R), eos_ids[0], np.int32)
  logps = np.zeros((B * C, R), np.float32)
  state, first = decode_loop.begin(
    model, variables, prompts, weak, keys, weight, C, choice
  )
  rows = np.arange(B * C).reshape(B, C)  # of `tokens`, for each row of state
  tokens[rows, 0], logps[rows, 0] = map(sharding.whole, (state.token, first))
  shards = _shards(prompts.prefix)
  for start, size in blocks(R):
    state, rows = _drop_ended(state, rows, shards)
    if state is None:
      break
    state, new = decode_loop.fill(model, variables, state, size, choice)
    into = slice(start + 1, start + 1 + size)
    tokens[rows, into], logps[rows, into] = map(sharding.whole, new)
  return _result(tokens, logps, eos_ids, (B, C, R))


def _check(candidates, max_new_tokens, sampling, eos_ids, contrast):
  check(sampling)
  if candidates < 1 or max_new_tokens < 1 or not eos_ids:
    raise ValueError(
      f"candidates={candidates} and max_new_tokens={max_new_tokens} must be "
      f"at least 1, and eos_ids={eos_ids} name a token"
    )
  cutoff = None if contrast is None else contrast.cutoff
  if cutoff is not None and not 0 < cutoff <= 1:
    raise ValueError(f"contrast.cutoff={cutoff}: must be in (0, 1], or None")


def _result(tokens, logps, eos_ids, shape) -> Generated:
  is_end = np.isin(tokens, eos_ids)
  ends = np.where(is_end.any(-1), is_end.argmax(-1) + 1, tokens.shape[-1])
  lengths = ends.astype(np.int32).reshape(shape[:2])
  return Generated(tokens.reshape(shape), lengths, logps.reshape(shape))


def _drop_ended(state, rows, shards):
  """The state without ended rows, where that halves an axis; None if all have.

  Videos are never dropped from a batch that is spread over devices.
  """
  done = sharding.whole(state.done)
  if done.all():
    return None, rows
  (B, C), live = done.shape, ~done
  b = B if shards > 1 else _halved(B, int(live.any(axis=1).sum()))
  c = _halved(C, int(live.sum(axis=1).max()))
  if (b, c) == (B, C):
    return state, rows
  videos = np.argsort(done.all(axis=1), kind="stable")[:b]
  slots = np.argsort(done[videos], axis=1, kind="stable")[:, :c]
  state = decode_loop.take(state, videos, slots)
  return state, np.take_along_axis(rows[videos], slots, axis=1)


def _halved(size: int, needed: int) -> int:
  while size > 1 and (size + 1) // 2 >= needed:
    size = (size + 1) // 2
  return size


def _shards(array) -> int:
  """Over how many devices the rows of a batch are spread."""
  placed = getattr(array, "sharding", None)
  if not isinstance(placed, NamedSharding):
    return 1
  return array.shape[0] // placed.shard_shape(array.shape)[0]


def row_keys(seed: int, ids: list[str]) -> Key[Array, " B"]:
  """A key per video from the run's seed and the video's own name only."""
  return jax.random.wrap_key_data(key_data(seed, ids))


def key_data(seed: int, ids: list[str]) -> UInt32[Array, "B 2"]:
  """The same keys as numbers."""
  words = [
    np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], np.uint32)
    for name in ids
  ]
  return _folded(seed, np.stack(words))


@jax.jit
def _folded(seed, words):
  root = jax.random.key(seed)
  fold = jax.vmap(
    lambda pair: jax.random.fold_in(jax.random.fold_in(root, pair[0]), pair[1])
  )
  return jax.random.key_data(fold(words))


def blocks(max_new_tokens: int) -> list[tuple[int, int]]:
  """(first token read, tokens read) of each block; the last is not read."""
  out, first, size = [], 0, FIRST_BLOCK
  while first < max_new_tokens - 1:
    size = min(size, LARGEST_BLOCK, max_new_tokens - 1 - first)
    out.append((first, size))
    first += size
    size = first  # as long as all before it
  return out
