"""The attention back ends against dense float64 attention.

Kernels run emulated: splash interpreted, cuDNN's masks through XLA. Measured
float32 noise: outputs 6e-7, gradients 3e-6 of the largest entry; the smallest
of the planted bugs (a window one position wide of the mark) costs 6e-3. That
splash compiles for real chips is tests/models/splash_compiled_test.py's.
"""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import Mesh

from synpo_jax.data.batch import SEGMENTS
from synpo_jax.models import (
  attention,
  attention_cudnn,
  attention_splash,
  attention_xla,
)
from synpo_jax.models.attention import XLA, Backend
from synpo_jax.models.packed_rows import Pairs, Slots, sees

SPLASH = Backend("splash", emulated=True)
CUDNN = Backend("cudnn", emulated=True)
PACKED = Slots(prefix=100, length=40, count=2)
CASES = {  # layout, window, softcap
  "packed": (PACKED, None, None),
  "packed_window": (PACKED, 24, None),
  "packed_softcap": (PACKED, 70, 3.0),
  "plain": (None, None, None),
  "three_captions": (Slots(50, 30, 3), 21, None),
  "three_of_odd_length": (Slots(51, 31, 3), None, None),
}


def make_rows(slots, real):
  """segments and positions [N, T]; real: (padding, caption lengths) a row."""
  slots = slots or Slots(171, 0, 0)
  T = slots.prefix + slots.length * slots.count
  segments, positions = np.zeros((2, len(real), T), np.int32)
  for n, (pad, lengths) in enumerate(real):
    first = slots.prefix - pad
    segments[n, pad : slots.prefix] = 1
    positions[n, pad : slots.prefix] = np.arange(first)
    for c, length in enumerate(lengths[: slots.count]):
      start = slots.prefix + c * slots.length
      segments[n, start : start + length] = 2 + c
      positions[n, start : start + length] = first + np.arange(length)
  return segments, positions


def make_case(name):
  slots, window, softcap = CASES[name]
  segments, positions = make_rows(slots, [(0, (30, 12, 30)), (17, (9, 30, 1))])
  rng, (N, T) = np.random.default_rng(0), segments.shape
  q, k, v, pull = (
    rng.normal(size=(N, T, heads, 16)).astype("float32")
    for heads in (4, 2, 2, 4)
  )
  pull *= (segments > 0)[..., None, None]  # padding may hold anything finite
  how = dict(window=window, softcap=softcap, scale=0.3)
  return SimpleNamespace(
    qkv=(q, k, v),
    pull=pull,
    segments=segments,
    positions=positions,
    slots=slots,
    how=how,
  )


def make_pairs(window=None, softcap=None):
  """Two rows of three pairs and of one, whose parts lie where data says."""
  case, T = make_case("packed"), len(make_case("packed").segments[0])
  segments, positions = np.zeros((2, 2, T), np.int32)
  lengths = [(40, 9, 20), (30, 1, 7), (25, 20, 12)], [(70, 30, 44)]
  for n, pairs in enumerate(lengths):
    at = 0
    for k, (prompt, *captions) in enumerate(pairs):
      for part, size in enumerate((prompt, *captions)):
        segments[n, at : at + size] = 1 + part + k * SEGMENTS
        begin = prompt if part else 0
        positions[n, at : at + size] = begin + np.arange(size)
        at += size
  case.segments, case.positions, case.slots = segments, positions, Pairs()
  case.pull *= (segments > 0)[..., None, None]
  case.how |= dict(window=window, softcap=softcap)
  return case


def dense(case):
  """Output and gradients in float64, from the definition."""
  q, k, v = (torch.tensor(x, dtype=torch.float64) for x in case.qkv)
  inputs = [x.requires_grad_() for x in (q, k, v)]
  seg, pos = case.segments, case.positions
  first = np.where(seg > 0, (seg - 1) // SEGMENTS * SEGMENTS + 1, 0)
  seen = seg[:, None] == first[:, :, None]
  seen |= seg[:, None] == seg[:, :, None]
  seen &= (seg[:, None] > 0) & np.tri(seg.shape[1], dtype=bool)
  if case.how["window"]:
    seen &= pos[:, :, None] - pos[:, None] < case.how["window"]
  k, v = (x.repeat_interleave(2, dim=2) for x in (k, v))
  scores = torch.einsum("nthd,nshd->nhts", q, k) * case.how["scale"]
  if cap := case.how["softcap"]:
    scores = cap * torch.tanh(scores / cap)
  hidden = torch.tensor(~seen)[:, None]
  shares = torch.softmax(scores.masked_fill(hidden, -1e30), dim=-1)
  out = torch.einsum("nhts,nshd->nthd", shares, v)
  out.backward(torch.tensor(case.pull, dtype=torch.float64))
  return [out.detach().numpy(), *(x.grad.numpy() for x in inputs)]


def attended(case, backend, slides=None):
  """Output and gradients of a back end."""

  @jax.jit
  def run(qkv, segments, positions, slides, pull):
    def attend(*qkv):
      rows = dict(segments=segments, positions=positions, slots=case.slots)
      return attention.attend(
        *qkv, **rows, **case.how, slides=slides, backend=backend
      )

    out, back = jax.vjp(attend, *qkv)
    return [out, *back(pull)]

  return run(case.qkv, case.segments, case.positions, slides, case.pull)


def assert_close(ours, theirs, case):
  real = (case.segments > 0)[..., None, None]
  for mine, wanted in zip(ours, theirs, strict=True):
    mine, wanted = (np.where(real, x, 0) for x in (mine, wanted))
    np.testing.assert_allclose(
      mine, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max()
    )


@pytest.mark.parametrize(
  "backend,names",
  [
    (SPLASH, ("packed", "packed_softcap", "plain", "three_captions")),
    (CUDNN, ("packed", "packed_window", "plain", "three_of_odd_length")),
    (XLA, ("packed_softcap",)),
  ],
  ids=["splash", "cudnn", "xla"],
)
def test_a_back_end_is_dense_attention(backend, names):
  for name in names:
    case = make_case(name)
    assert_close(attended(case, backend), dense(case), case)


@pytest.mark.parametrize(
  "backend", [SPLASH, CUDNN, XLA], ids=["splash", "cudnn", "xla"]
)
def test_pairs_of_a_row_see_themselves_alone(backend):
  case = make_pairs(window=24, softcap=None if backend is CUDNN else 3.0)
  assert_close(attended(case, backend, jnp.asarray(True)), dense(case), case)


def test_blocks_between_pairs_are_skipped(monkeypatch):
  """Not-a-numbers of the first pair and in its place never reach the second."""
  monkeypatch.setattr(attention_splash, "DATA_LANES", 1)
  segments = np.repeat([[1, 2, 3, 33, 34, 35]], 128, axis=1).astype(np.int32)
  rng, T = np.random.default_rng(0), segments.shape[1]
  q, k, v = rng.normal(size=(3, 1, T, 1, 16)).astype("float32")
  v[:, 128:384] = np.nan  # both captions of the first
  out = attention.attend(
    *map(jnp.asarray, (q, k, v)),
    segments=jnp.asarray(segments),
    positions=jnp.asarray(segments),
    slots=Pairs(),
    scale=0.25,
    backend=SPLASH,
  )
  whole = ~np.isnan(np.asarray(out)).any(axis=(0, 2, 3))
  assert whole[:128].all() and whole[384:].all() and not whole[128:384].any()


def test_a_layer_that_may_slide():
  """Where layers differ, one traced flag picks among static masks."""
  case = make_case("packed_window")
  for slides, window in ((True, 24), (False, None)):
    case.how["window"] = 24
    ours = attended(case, SPLASH, jnp.asarray(slides))
    case.how["window"] = window
    assert_close(ours, dense(case), case)


def test_blocks_that_nobody_sees_are_skipped(monkeypatch):
  """Not-a-numbers in the chosen caption's values never reach the rejected.

  A block that is computed multiplies them by zero, which is not a number.
  """
  tiles = attention_splash.Tiling(128, 128, 384)
  monkeypatch.setattr(attention_splash, "tiling", lambda *rule: tiles)
  slots = Slots(128, 128, 2)
  segments, positions = make_rows(slots, [(3, (128, 128))])
  rng = np.random.default_rng(0)
  q, k, v = rng.normal(size=(3, 1, 384, 1, 16)).astype("float32")
  v[:, 128:256] = np.nan
  out = attention.attend(
    *map(jnp.asarray, (q, k, v)),
    segments=jnp.asarray(segments),
    positions=jnp.asarray(positions),
    slots=slots,
    scale=0.25,
    backend=SPLASH,
  )
  whole = ~np.isnan(np.asarray(out)).any(axis=(0, 2, 3))
  assert whole[:128].all() and whole[256:].all() and not whole[128:256].any()


@pytest.mark.parametrize("shape", [(1168, 200), (1824, 768)])
def test_calls_by_captions_compute_little_that_nobody_sees(shape):
  """The share of what is needed, counted tile by tile and entry by entry."""
  slots, (prefix, length) = Slots(*shape, 2), shape
  index = np.arange(prefix + 2 * length)
  needed = sees(slots, None, index[:, None], index[None]).sum()
  own, side = np.tri(prefix + length, dtype=bool), attention_cudnn.TILE
  starts = range(0, len(own), side)
  tiles = (own[i : i + side, j : j + side] for i in starts for j in starts)
  causal = sum(tile.size for tile in tiles if tile.any())
  mask = length * (prefix + length)
  assert attention_cudnn.computed(slots) == (causal, mask)
  assert needed < causal + mask < 1.1 * needed


def test_each_pass_has_blocks_of_its_own(monkeypatch):
  """Of two blocks of keys, each writes a part of dq; padding is seen by none.

  Rows of slots are padded at their beginning, rows of several pairs at their
  end.
  """
  tiles = attention_splash.Tiling(256, 128, 256)
  for name in ("tiling", "row_tiling"):
    monkeypatch.setattr(attention_splash, name, lambda *rule: tiles)
  case = make_case("packed_softcap")  # and a window
  assert_close(attended(case, SPLASH), dense(case), case)
  case = make_pairs(window=24, softcap=3.0)
  assert_close(attended(case, SPLASH, jnp.asarray(True)), dense(case), case)


def test_going_back_copies_nothing_as_large_as_scores():
  """In XLA's program for this CPU, where a strip has 64 queries of 512."""
  q, k = (jnp.zeros((1, 512, heads, 16)) for heads in (4, 2))
  ones = jnp.ones((1, 512), int)
  rows = dict(segments=ones, positions=jnp.cumsum(ones, axis=1))

  def total(q, k, v):
    how = dict(window=None, scale=0.25, softcap=None)
    return attention_xla.attend(q, k, v, **rows, **how).sum()

  program = jax.jit(jax.grad(total, argnums=(0, 1, 2))).lower(q, k, k).compile()
  found = re.findall(
    r"= f32\[([\d,]+)]\S* (?:copy|transpose)\(", program.as_text()
  )
  shapes = [sorted(map(int, shape.split(","))) for shape in found]
  assert shapes, "the queries' heads are always moved in front"
  assert all(shape[-2] < 64 for shape in shapes)


@pytest.mark.parametrize("kind", [*attention_splash.SCHEDULES, "cpu"])
def test_tiling_covers_the_row_and_knows_what_is_skipped(kind):
  for prefix, length in ((1024, 256), (1920, 128), (916, 200), (1, 1)):
    slots = Slots(prefix, length, 2)
    T = prefix + 2 * length
    forward, backward, padded = attention_splash.tiling(T, slots, None, kind)
    assert forward % 128 == backward % 128 == 0
    assert padded % forward == padded % backward == 0 and 0 <= padded - T < 640
  tiles = attention_splash.tiling(4096, Slots(0, 2048, 2), None, kind)
  mask = attention_splash.RowMask(4096, Slots(0, 2048, 2), None)
  assert 2048 % tiles.forward == 2048 % tiles.backward == 0
  assert not mask[2048:4096, 0:2048].any()


def test_blocks_are_those_of_the_chip():
  row = 928 + 2 * 256, Slots(928, 256, 2), None
  sides = {
    kind: attention_splash.tiling(*row, kind)[:2]
    for kind in ("TPU v5 lite", "TPU v5", "TPU v6 lite", "TPU v4", "TPU v7")
  }
  assert [*sides.values()] == [
    (512, 384),
    (512, 384),
    (384, 512),
    (512, 256),
    (512, 384),  # not known: as a v5e
  ]
  mesh = Mesh(np.array(jax.devices()[:1]), "data")
  assert attention.Backend("splash", mesh).kind == "cpu"


def test_lanes_are_seen_as_the_kernel_s_mask_says():
  for slots, window in ((Slots(300, 100, 2), None), (Slots(300, 100, 2), 150)):
    seen = attention_splash.lanes_seen(500, 640, slots, window)
    mask = attention_splash.RowMask(640, Slots(440, 100, 2), window)
    whole = mask[0:640, 0:640].reshape(5, 128, 5, 128)
    np.testing.assert_array_equal(seen, whole.any(axis=(1, 3)))


def test_sees_is_what_segments_and_positions_say():
  for slots, window in ((PACKED, 24), (Slots(5, 7, 3), 6), (Slots(5, 7, 1), 2)):
    (seg,), (pos,) = make_rows(slots, [(0, (slots.length,) * slots.count)])
    index = np.arange(len(seg))
    said = (seg == 1) | (seg == seg[:, None])
    said &= index <= index[:, None]
    said &= pos[:, None] - pos < window
    np.testing.assert_array_equal(
      sees(slots, window, index[:, None], index[None]), said
    )
