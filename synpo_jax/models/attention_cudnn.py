"""cuDNN's fused attention on NVIDIA GPUs.

Rows of slots take a call for each caption: the first with the prompt, causal,
where no mask exists and nothing above the diagonal is computed; every other's
queries against the prompt and itself, by a mask as long as the caption is.
Rows of another layout, or with a window, are one call with a mask of T x T.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from synpo_jax.models import attention_xla
from synpo_jax.models.packed_rows import Pairs, Slots

TILE = 128  # of queries and keys: what the diagonal touches is computed whole


def attend(
  q: Float[Array, "N T H h"],
  k: Float[Array, "N T G h"],
  v: Float[Array, "N T G h"],
  rows: attention_xla.Rows,
  *,
  slots: Slots | Pairs | None,
  scale: float,
  implementation: str,
) -> Float[Array, "N T H h"]:
  """What `attention.attend` promises, for rows without a past or a softcap.

  Computes in bfloat16 or float16. With slots, padding lies left of the prefix
  and right of captions. A masked query sees itself too, padding included, so
  that no softmax is empty. `implementation` is jax.nn.dot_product_attention's:
  "cudnn", or "xla" where there is no GPU.

  Nothing of it was ever timed: no GPU was at hand. cuDNN's residuals could
  join a caption's two parts without a mask, but JAX differentiates nothing
  through them; its packed offsets are not in JAX's public interface. Keys that
  are copied for a caption take memory: compiled for an H100 (4 rows of 1792,
  32 heads of 128, forward and backward), one mask took 162 MiB of temporary
  memory, an earlier form of calls by captions 381, XLA's dense attention 3989.
  """
  call = functools.partial(
    jax.nn.dot_product_attention, scale=scale, implementation=implementation
  )
  if not in_calls(slots, rows.window):
    mask_NTT = attention_xla.view(rows, 0, q.shape[1])
    mask_NTT |= jnp.eye(q.shape[1], dtype=bool)[None]
    return _masked(call, q, k, v, mask_NTT)
  begin = slots.prefix + slots.length
  first = jnp.argmax(rows.segments[:, :begin] > 0, axis=1).astype(jnp.int32)
  rolled = (_rolled(x[:, :begin], first) for x in (q, k, v))
  outs = [_rolled(call(*rolled, is_causal=True), -first)]
  for start, _ in slots.later:
    own = slice(start, start + slots.length)
    keys, values, segments = (
      jnp.concatenate([x[:, : slots.prefix], x[:, own]], axis=1)
      for x in (k, v, rows.segments)
    )
    mask = _caption_view(segments, slots.prefix)
    outs.append(_masked(call, q[:, own], keys, values, mask))
  return jnp.concatenate(outs, axis=1)


def in_calls(slots: object, window: object) -> bool:
  """Whether rows are computed by captions, rather than by one mask."""
  return isinstance(slots, Slots) and slots.count > 0 and window is None


def computed(slots: Slots) -> tuple[int, int]:
  """Pairs of query and key in a row's call without a mask, and in each other.

  Hidden ones too: up to the end of a TILE on the diagonal, and all of a mask.
  """
  length = slots.prefix + slots.length
  causal = sum(min(-(-(i + 1) // TILE) * TILE, length) for i in range(length))
  return causal, slots.length * length


def _caption_view(
  segments: Int[Array, "N S"], prefix: int
) -> Bool[Array, "N L S"]:
  """What a caption's queries see of the prompt and of the caption."""
  queries = segments[:, prefix:, None]
  seen = (segments[:, None] == 1) | (segments[:, None] == queries)
  seen &= (segments[:, None] > 0) & (queries > 0)
  key = jnp.arange(segments.shape[1])[None, None]
  query = key[:, :, prefix:].swapaxes(1, 2)
  return (seen & (key <= query)) | (key == query)


def _masked(call, q, k, v, mask_NTS) -> Float[Array, "N T H h"]:
  """One call with a mask; the kernel takes even lengths with one."""
  T, odd, odd_keys = q.shape[1], q.shape[1] % 2, k.shape[1] % 2
  longer = (((0, 0), (0, n), (0, 0), (0, 0)) for n in (odd, odd_keys, odd_keys))
  q, k, v = (jnp.pad(x, w) for x, w in zip((q, k, v), longer, strict=True))
  mask_NTS = jnp.pad(mask_NTS, ((0, 0), (0, odd), (0, odd_keys)))
  return call(q, k, v, mask=mask_NTS[:, None])[:, :T]


@jax.custom_vjp
def _rolled(
  x: Float[Array, "N T H h"], first: Int[Array, " N"]
) -> Float[Array, "N T H h"]:
  """Each row from its position `first` on, around the end."""
  T = x.shape[1]
  index_NT = (jnp.arange(T)[None] + first[:, None]) % T
  return jnp.take_along_axis(x, index_NT[:, :, None, None], axis=1)


def _roll_forward(x, first):
  return _rolled(x, first), first


def _roll_back(first, g):
  return _rolled(g, -first), None


_rolled.defvjp(_roll_forward, _roll_back)
