"""The attention back ends against dense float64 attention, and each other.

Kernels run emulated: splash interpreted, cuDNN's masks through XLA. Measured
float32 noise: outputs 6e-7, gradients 3e-6 of the largest entry; the smallest
of the planted bugs (a window one position wide of the mark) costs 6e-3. That
splash compiles for real chips is tests/splash_compiled_test.py's.
"""

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from synpo_jax import sharding, update
from synpo_jax.models import attention, splash, weights
from synpo_jax.models.attention import XLA, Backend
from synpo_jax.models.captioner import Captioner, shapes
from synpo_jax.models.config import LoraConfig, captioner_config
from synpo_jax.models.lora import init as init_lora
from synpo_jax.models.slots import Slots, sees

SPLASH = Backend("splash", emulated=True)
CUDNN = Backend("cudnn", emulated=True)
PACKED = Slots(prefix=100, length=40, count=2)
CASES = {  # layout, window, softcap
  "packed": (PACKED, None, None),
  "packed_window": (PACKED, 24, None),
  "packed_softcap": (PACKED, 70, 3.0),
  "plain": (None, None, None),
  "three_captions": (Slots(50, 30, 3), 21, None),
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


def dense(case):
  """Output and gradients in float64, from the definition."""
  q, k, v = (torch.tensor(x, dtype=torch.float64) for x in case.qkv)
  inputs = [x.requires_grad_() for x in (q, k, v)]
  seg, pos = case.segments, case.positions
  seen = (seg[:, None] == 1) | (seg[:, None] == seg[:, :, None])
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
    (CUDNN, ("packed", "packed_window", "plain")),
    (XLA, ("packed_softcap",)),
  ],
  ids=["splash", "cudnn", "xla"],
)
def test_a_back_end_is_dense_attention(backend, names):
  for name in names:
    case = make_case(name)
    assert_close(attended(case, backend), dense(case), case)


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
  monkeypatch.setattr(splash, "tiling", lambda *rule: (128, 384))
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


def test_tiling_covers_the_row_and_knows_what_is_skipped():
  for prefix, length in ((1024, 256), (1920, 128), (916, 200), (1, 1)):
    slots = Slots(prefix, length, 2)
    T = prefix + 2 * length
    side, padded = splash.tiling(T, slots, None)
    assert side % 128 == padded % side == 0 and 0 <= padded - T < side
  with_gaps, _ = splash.tiling(4096, Slots(0, 2048, 2), None)
  mask = splash.RowMask(4096, Slots(0, 2048, 2), None)
  assert 2048 % with_gaps == 0 and not mask[2048:4096, 0:2048].any()


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


SIZES = dict(
  model_type="gemma2",
  vocab_size=64,
  hidden_size=24,
  intermediate_size=40,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=8,
  sliding_window=16,
  query_pre_attn_scalar=9,
  attn_logit_softcapping=5.0,
  rms_norm_eps=1e-6,
  rope_theta=1e4,
  max_position_embeddings=128,
  hidden_activation="gelu_pytorch_tanh",
  tie_word_embeddings=True,
)
CONFIG = captioner_config(SIZES)


def test_an_update_is_the_same_over_eight_devices():
  """Loss and LoRA gradients: rows over four devices, heads over two."""
  mesh = sharding.make_mesh(data=2, fsdp=2, model=2)
  sliding = dataclasses.replace(CONFIG.decoder, sliding=(True, True))
  config = dataclasses.replace(CONFIG, decoder=sliding)
  model = Captioner(config, LoraConfig(4, 8.0, 0.0), remat="save_attention")
  variables = {
    "params": jax.tree.map(lambda x: 4 * x, weights.init(model, 0)),
    "lora": init_lora(model, 0),
  }
  variables["lora"] = jax.tree.map(lambda x: x + 0.02, variables["lora"])
  places = sharding.tree_shardings(shapes(model), mesh)
  variables = jax.device_put(variables, places)
  trained, frozen = update.split(variables, "lora/.*")
  batch = jax.device_put(make_batch(), sharding.rows_sharding(mesh))

  def loss_and_gradients(backend):
    objective = update.make_objective(
      model.clone(attention=backend),
      dict(layout="shared", head_chunk=8),
      name="synpo",
      coefficients=dict(alpha=30.0, beta=0.2),
    )
    step = jax.value_and_grad(objective, has_aux=True)
    (loss, _), gradients = jax.jit(step)(trained, frozen, batch, None)
    return [loss, *jax.tree.leaves(gradients)]

  ours = loss_and_gradients(Backend("splash", mesh, emulated=True))
  for mine, wanted in zip(ours, loss_and_gradients(XLA), strict=True):
    np.testing.assert_allclose(
      mine, wanted, rtol=0, atol=2e-5 * float(jnp.abs(wanted).max())
    )


def make_batch():
  """Four text pairs with padding, [B, ...]."""
  rng = np.random.default_rng(0)
  prefix_mask = np.arange(40) >= np.array([0, 7, 1, 20])[:, None]
  lengths = np.array([[20, 11], [5, 20], [1, 9], [20, 20]])
  return dict(
    prefix=rng.integers(0, 61, (4, 40), np.int32),
    prefix_mask=prefix_mask,
    response=rng.integers(0, 61, (4, 2, 20), np.int32),
    response_mask=np.arange(20) < lengths[..., None],
    weight=np.ones(4, "float32"),
  )


def equations(jaxpr):
  """Every equation of a traced function, those of inner functions too."""
  for equation in jaxpr.eqns:
    yield equation
    for value in jax.tree.leaves(
      list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
    ):
      if hasattr(value, "eqns"):
        yield from equations(getattr(value, "jaxpr", value))


def test_remat_saves_what_the_backward_pass_needs():
  """Where its result is saved, attention's forward pass runs once.

  XLA takes two strips: an exponential of each going forward, and back. What
  splash does is counted where it is compiled.
  """
  plain = dataclasses.replace(
    CONFIG.decoder, window=None, sliding=(), attn_softcap=None
  )
  config = dataclasses.replace(CONFIG, decoder=plain)
  tokens = jnp.zeros((1, 128), jnp.int32)
  counts = {}
  for remat in ("save_attention", "full"):
    model = Captioner(config, remat=remat)

    def total(params, model=model):
      apply = partial(model.apply, {"params": params})
      x = apply(tokens, None, method="embed")
      hidden, _ = apply(x, tokens, jnp.ones_like(tokens), method="decode")
      return hidden.sum()

    traced = jax.make_jaxpr(jax.grad(total))(shapes(model)["params"])
    names = [e.primitive.name for e in equations(traced.jaxpr)]
    counts[remat] = names.count("exp")
  assert counts == dict(save_attention=4, full=6)


def config_of(**changes):
  return dataclasses.replace(
    CONFIG.decoder, **dict(attn_softcap=None, head_dim=64) | changes
  )


@pytest.mark.parametrize(
  "name,platform,sizes,dtype,chosen",
  [
    ("auto", "tpu", config_of(), "bfloat16", "splash"),
    ("auto", "tpu", config_of(attn_softcap=5.0), "float32", "splash"),
    ("auto", "gpu", config_of(), "bfloat16", "cudnn"),
    ("auto", "cuda", config_of(), "float16", "cudnn"),
    ("auto", "gpu", config_of(attn_softcap=5.0), "bfloat16", "xla"),
    ("auto", "gpu", config_of(), "float32", "xla"),
    ("auto", "gpu", config_of(head_dim=256), "bfloat16", "xla"),
    ("auto", "cpu", config_of(), "float32", "xla"),
    ("auto", "tpu", config_of(mrope_sections=(8, 8, 16)), "bfloat16", "xla"),
    ("xla", "tpu", config_of(), "bfloat16", "xla"),
    ("splash", "tpu", config_of(), "bfloat16", "splash"),
    ("cudnn", "gpu", config_of(), "bfloat16", "cudnn"),
  ],
)
def test_choose(name, platform, sizes, dtype, chosen):
  assert attention.choose(name, platform, sizes, jnp.dtype(dtype)) == chosen


def test_the_log_says_why_a_gpu_computes_with_xla():
  gpu = SimpleNamespace(platform="gpu")
  mesh = SimpleNamespace(devices=np.array([gpu]))
  say = partial(attention.describe, Backend("xla", mesh))
  capped = say(config_of(attn_softcap=5.0), jnp.bfloat16)
  assert capped == "xla (cudnn has no softcap on scores)"
  chosen = Backend("cudnn", mesh)
  assert attention.describe(chosen, config_of(), jnp.bfloat16) == "cudnn"


@pytest.mark.parametrize(
  "name,platform,changes,said",
  [
    ("flash", "tpu", {}, "model.attention=flash: choose one of auto, splash"),
    ("splash", "cpu", {}, "splash does not run on cpu: choose auto or xla"),
    ("cudnn", "tpu", {}, "cudnn does not run on tpu"),
    ("cudnn", "gpu", dict(attn_softcap=5.0), "cudnn has no softcap"),
  ],
)
def test_what_cannot_be_chosen(name, platform, changes, said):
  with pytest.raises(ValueError, match=said):
    sizes = config_of(**changes)
    attention.choose(name, platform, sizes, jnp.bfloat16)
