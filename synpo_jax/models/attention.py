"""Attention over a row's own keys and over read-only blocks of past keys.

One function, `attend`, and three back ends for rows without a past: `splash`
on TPU, `cudnn` on NVIDIA GPUs and `xla` (strips of queries) anywhere.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from synpo_jax.models import (
  attention_cudnn,
  attention_pages,
  attention_splash,
  attention_xla,
  data_parts,
)
from synpo_jax.models.attention_pages import Pages, Part
from synpo_jax.models.attention_xla import HIDDEN
from synpo_jax.models.config import DecoderConfig
from synpo_jax.models.packed_rows import Pairs, Slots

BACKENDS = ("auto", "splash", "cudnn", "xla")
NATIVE = {"tpu": "splash", "gpu": "cudnn", "cuda": "cudnn"}
BATCH_AXES = ("data", "fsdp")  # of the mesh; heads lie over "model"


class Backend(NamedTuple):
  """Who computes attention, and on which mesh; hashable.

  name: "splash", "cudnn" or "xla". mesh: what a kernel is split over, rows
  and heads; None for one device. emulated: the kernel's steps without its
  hardware (splash interpreted, cuDNN's masks through XLA), for tests.
  """

  name: str
  mesh: Mesh | None = None
  emulated: bool = False

  @property
  def kind(self) -> str:
    """What JAX calls its devices; "" without a mesh."""
    return self.mesh.devices.flat[0].device_kind if self.mesh else ""


XLA = Backend("xla")


class Past(NamedTuple):
  """Keys of earlier positions: M rows, each read by N / M rows of queries."""

  k: Float[Array, "M S G h"]
  v: Float[Array, "M S G h"]
  mask: Bool[Array, "M S"]  # True at real tokens
  positions: Int[Array, "M S"]


def choose(
  name: str, platform: str, sizes: DecoderConfig, dtype: DTypeLike
) -> str:
  """The back end that a config's `model.attention` asks for.

  name: "auto" takes the platform's own where it can serve the model, else
  "xla". platform: of the mesh's devices, as "tpu", "gpu" or "cpu". Raises
  ValueError for an unknown name, and for a back end that the platform or the
  model does not allow.
  """
  if name not in BACKENDS:
    known = ", ".join(BACKENDS)
    raise ValueError(f"model.attention={name}: choose one of {known}")
  native = native_to(platform)
  if name == "auto":
    return "xla" if lacks(native, sizes, dtype) else native
  if name not in ("xla", native):
    raise ValueError(
      f"model.attention={name} does not run on {platform}: choose auto or xla"
    )
  if reason := lacks(name, sizes, dtype):
    raise ValueError(f"model.attention={name} {reason}: choose auto or xla")
  return name


def native_to(platform: str) -> str:
  """The back end that a platform has a kernel for, else "xla"."""
  return NATIVE[platform] if platform in NATIVE else "xla"


def on_mesh(
  name: str, mesh: Mesh, sizes: DecoderConfig, dtype: DTypeLike
) -> Backend:
  """What `choose` says for the mesh's devices, which need not be at hand."""
  platform = mesh.devices.flat[0].platform
  return Backend(choose(name, platform, sizes, dtype), mesh)


def describe(backend: Backend, sizes: DecoderConfig, dtype: DTypeLike) -> str:
  """The back end by name, and why it is not the platform's own."""
  native = native_to(backend.mesh.devices.flat[0].platform)
  reason = lacks(native, sizes, dtype)
  return f"{backend.name} ({native} {reason})" if reason else backend.name


def lacks(name: str, sizes: DecoderConfig, dtype: DTypeLike) -> str:
  """Why a back end cannot serve a model, "" where it can."""
  if name == "cudnn":
    if sizes.attn_softcap is not None:
      return "has no softcap on scores"
    if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float16):
      return f"does not compute in {jnp.dtype(dtype).name}"
    if sizes.head_dim > 128 or sizes.head_dim % 8:
      return f"has no heads of width {sizes.head_dim}"
  if name == "splash" and any(sizes.sliding) and sizes.mrope_sections:
    return "has no sliding window under M-RoPE"
  return ""


def attend(
  q: Float[Array, "N T H h"],
  k: Float[Array, "N T G h"],
  v: Float[Array, "N T G h"],
  *,
  segments: Int[Array, "N T"],
  positions: Int[Array, "N T"],
  slots: Slots | Pairs | None = None,
  past: tuple[Past | Pages, ...] = (),
  window: int | None = None,
  slides: Bool[Array, ""] | None = None,
  scale: float,
  softcap: float | None = None,
  backend: Backend = XLA,
) -> Float[Array, "N T H h"]:
  """Softmax attention; q's dtype, scores and softmax in float32.

  Query i sees its own row's key j iff j <= i, segment_j is segment_i or the
  prompt's of its pair, 1 where a row holds one (never 0, padding; batch.Packed
  has the numbers), and every real key of its past rows. With a window it
  sees only keys whose position is less than `window` behind its own; `slides`
  says whether this layer has it, None for yes. H query heads share G key
  heads, G dividing H; keys are never repeated. A query that sees nothing, and
  padding, get finite values.

  `slots` says the same as segments over 1, before anything runs: splash reads
  it in their place (None: segments are 0 and 1; Pairs: segments alone say it)
  and wants padding left of the prefix and right of captions where there is a
  window. Rows with a past are XLA's whatever the back end: a step of
  generation has one query, and nothing of a kernel to skip.
  """
  width = _width(window, slides)
  rows = attention_xla.Rows(segments, positions, width)
  if past:
    return _over_blocks(q, k, v, rows, past, scale, softcap)
  own = dict(scale=scale, softcap=softcap)
  if backend.name == "splash":
    own["interpret"] = backend.emulated
  if backend.name == "splash" and isinstance(slots, Pairs):
    run = partial(attention_splash.attend_pairs, window=width, **own)
    return _on_shards(backend.mesh, run, q, k, v, segments, positions)
  if backend.name == "splash":
    where = dict(slots=slots, kind=backend.kind)
    kernel = partial(attention_splash.attend, **where, **own)

    def run(window):
      once = partial(kernel, window=window)
      return _on_shards(backend.mesh, once, q, k, v, segments > 0)

    if window is None or slides is None:
      return run(window)
    return jax.lax.cond(slides, lambda: run(window), lambda: run(None))
  if backend.name == "cudnn":
    if softcap is not None:
      raise ValueError("cuDNN's attention has no softcap on scores")
    return _cudnn(backend, q, k, v, rows, slots, scale)
  if backend.name != "xla":
    raise ValueError(f"no attention back end is called {backend.name!r}")
  return attention_xla.attend(q, k, v, **rows._asdict(), **own)


def _width(window, slides):
  """Positions that a layer's queries see back; None for all, or an array."""
  if window is None or slides is None:
    return window
  return jnp.where(slides, window, jnp.iinfo(jnp.int32).max)


def _cudnn(backend, q, k, v, rows, slots, scale):
  told = dict(slots=slots, scale=scale)
  told["implementation"] = "xla" if backend.emulated else "cudnn"

  def run(q, k, v, segments, positions):
    own = attention_xla.Rows(segments, positions, rows.window)
    return attention_cudnn.attend(q, k, v, own, **told)

  out = _on_shards(backend.mesh, run, q, k, v, rows.segments, rows.positions)
  return checkpoint_name(out, "attended")


def _on_shards(mesh, run, q, k, v, *rows):
  """run(q, k, v, *rows [N, T]) on each device's rows and heads.

  An axis that the mesh does not divide evenly is computed whole by all of the
  devices along it.
  """
  if mesh is None or mesh.size == 1:
    return run(q, k, v, *rows)
  mesh, axes = data_parts.rest(mesh)
  over = tuple(axis for axis in BATCH_AXES if axis in axes)
  shards = math.prod(mesh.shape[axis] for axis in over)
  batch = None if q.shape[0] % shards else over
  heads = None if k.shape[2] % mesh.shape["model"] else "model"
  spec = P(batch, None, heads)
  split = jax.shard_map(
    run,
    mesh=mesh,
    axis_names=set(axes),
    in_specs=(spec,) * 3 + (P(batch),) * len(rows),
    out_specs=spec,
    check_vma=False,  # a kernel does not say what varies over the mesh
  )
  return split(q, k, v, *rows)


def _over_blocks(q, k, v, rows, past, scale, softcap):
  own = Past(k, v, rows.segments > 0, rows.positions)
  pages = [block for block in past if isinstance(block, Pages)]
  past = [block for block in past if not isinstance(block, Pages)]
  views = [attention_xla.view(rows, 0, q.shape[1])]
  views += [_past_view(block, rows.positions, rows.window) for block in past]
  blocks = (own, *past)
  scores = [
    _scores(q, block.k, view, scale, softcap)
    for block, view in zip(blocks, views, strict=True)
  ]
  parts = [_mix(scores, [block.v for block in blocks])]
  seen = rows.positions, rows.window, scale, softcap
  parts += [attention_pages.part(q, block, *seen) for block in pages]
  return attention_pages.joined(parts, q.dtype)


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


def _mix(scores, values) -> Part:
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
  return Part(top_NTGr, total, mixed)


def _rows(values_MGcTr) -> Float[Array, "N T G r"]:
  M, G, c, T, r = values_MGcTr.shape
  return values_MGcTr.transpose(0, 2, 3, 1, 4).reshape(M * c, T, G, r)
