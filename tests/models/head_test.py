"""The chunked head against full float64 logits, and what it compiles to."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from synpo_jax.models import head

pytestmark = pytest.mark.usefixtures("optimised")  # as users compile

B, M, D, V = 2, 7, 6, 40


def naive(hidden, kernel, targets, g, softcap):
  """Log-probs and the gradients of sum(g * logps), in float64."""
  hidden, kernel, g = (np.float64(x) for x in (hidden, kernel, g))
  raw = hidden @ kernel
  z = raw if softcap is None else softcap * np.tanh(raw / softcap)
  p = np.exp(z - z.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  one_hot = np.eye(kernel.shape[1])[targets]
  logps = np.log((p * one_hot).sum(-1))
  slope = g[..., None] * (one_hot - p)
  if softcap is not None:
    slope /= np.cosh(raw / softcap) ** 2
  return logps, slope @ kernel.T, np.einsum("bmd,bmv->dv", hidden, slope)


def inputs(seed=0, shape=(B, M, D, V), dtype=jnp.float32):
  B, M, D, V = shape
  keys = jax.random.split(jax.random.key(seed), 4)
  hidden = 2 * jax.random.normal(keys[0], (B, M, D), dtype)
  kernel = jax.random.normal(keys[1], (D, V), dtype)
  targets = jax.random.randint(keys[2], (B, M), 0, V)
  return hidden, kernel, targets, jax.random.normal(keys[3], (B, M))


@functools.partial(
  jax.jit,
  static_argnames=("chunk", "trainable", "softcap", "tied", "kernel_sharding"),
)
def value_and_grads(hidden, kernel, targets, g, **how):
  def total(hidden, kernel):
    logps = head.token_logps(hidden, kernel, targets, **how)
    return jnp.sum(g * logps), logps

  (_, logps), grads = jax.value_and_grad(total, (0, 1), has_aux=True)(
    hidden, kernel
  )
  return logps, *grads


def close(actual, desired, rtol):
  scale = np.abs(desired).max()
  actual = np.asarray(actual, np.float64)
  np.testing.assert_allclose(actual, desired, rtol=0, atol=rtol * scale)


# Noise: 4e-7 of the largest entry (bfloat16 gradients: 4e-3).
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("chunk", [3, 50])
def test_equals_the_naive_head(chunk, trainable, softcap):
  args = inputs()
  how = dict(chunk=chunk, trainable=trainable, softcap=softcap)
  logps, d_hidden, d_kernel = value_and_grads(*args, **how)
  wanted = naive(*args, softcap)
  assert logps.dtype == jnp.float32
  close(logps, wanted[0], 2e-6)
  close(d_hidden, wanted[1], 3e-6)
  if trainable:
    close(d_kernel, wanted[2], 3e-6)
  else:
    assert not d_kernel.any()


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_collisions_match_float64_and_are_constants(trainable, tied):
  hidden, kernel, targets, g = inputs()

  def total(hidden, both):
    scores = head.token_scores(
      hidden,
      kernel,
      targets,
      chunk=3,
      softcap=3.0,
      trainable=trainable,
      tied=tied,
      collisions=True,
    )
    return jnp.sum(g * (scores.logps + both * scores.collisions)), scores

  found = jax.value_and_grad(total, has_aux=True)
  ((_, scores), with_them), (_, without) = (
    jax.jit(found)(hidden, both) for both in (1.0, 0.0)
  )
  z = 3.0 * np.tanh(np.float64(hidden) @ np.float64(kernel) / 3.0)
  p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
  close(scores.collisions, np.log((p**2).sum(-1)), 2e-6)
  np.testing.assert_array_equal(with_them, without)
  close(scores.logps, naive(hidden, kernel, targets, g, 3.0)[0], 2e-6)
  traced = jax.make_jaxpr(found)(hidden, 1.0)
  made = [v.aval.shape for e in equations(traced.jaxpr) for v in e.outvars]
  met = [shape for shape in made if len(shape) > 2 and shape[-1] == V]
  assert met and all(len(x) == 3 and x[1] <= 3 for x in met)


def test_without_a_gradient_the_values_are_the_same():
  args = inputs()
  alone = jax.jit(functools.partial(head.token_logps, chunk=3))(*args[:3])
  np.testing.assert_allclose(alone, naive(*args, None)[0], rtol=2e-6)


@pytest.mark.parametrize("trainable", [False, True])
def test_bfloat16_products_are_summed_in_float32(trainable):
  args = inputs(dtype=jnp.bfloat16, shape=(2, 16, 256, 300))
  logps, d_hidden, d_kernel = value_and_grads(
    *args, chunk=5, trainable=trainable
  )
  wanted = naive(*args, None)
  assert logps.dtype == jnp.float32 and d_hidden.dtype == jnp.bfloat16
  close(logps, wanted[0], 1e-6)  # inputs are exact, so only float32 rounds
  close(d_hidden, wanted[1], 1e-2)
  if trainable:
    close(d_kernel, wanted[2], 1e-2)


def test_large_logits_and_padding_targets_are_finite():
  hidden, kernel, targets, g = inputs()
  hidden = 1e4 * hidden
  targets = targets.at[0, 0].set(-200)
  for trainable in (False, True):
    out = value_and_grads(
      hidden, kernel, targets, g, chunk=2, trainable=trainable
    )
    assert all(np.isfinite(x).all() for x in out)


def test_a_chunk_of_nothing_is_refused():
  with pytest.raises(ValueError, match="head chunk is 0"):
    head.token_logps(*inputs()[:3], chunk=0)


def test_split_pads_less_than_a_position_per_piece():
  x = jnp.arange(2 * 401).reshape(2, 401)
  pieces = head.split(x, 2)
  assert pieces.shape == (2, 2, 201)
  np.testing.assert_array_equal(pieces[1, :, -1], 0)
  np.testing.assert_array_equal(pieces[0], x[:, :201])


def compiled(fn, *shapes):
  return jax.jit(fn).lower(*shapes).compile()


def memory_of(*, chunk, trainable, width=16, tied=False):
  """Temporary bytes of value and gradients; 2 x 256 positions, 8192 tokens."""

  def fn(hidden, kernel, targets, g):
    how = dict(chunk=chunk, trainable=trainable, tied=tied)
    kernel = kernel.T if tied else kernel
    out = value_and_grads(hidden, kernel, targets, g, **how)
    return out if trainable else out[:2]

  shape = jax.ShapeDtypeStruct
  program = compiled(
    fn,
    shape((2, 256, width), jnp.float32),
    shape((8192, width) if tied else (width, 8192), jnp.float32),
    shape((2, 256), jnp.int32),
    shape((2, 256), jnp.float32),
  )
  return program.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("trainable", [False, True])
def test_full_logits_are_never_held(trainable):
  logits = 2 * 256 * 8192 * 4
  assert (
    memory_of(trainable=trainable, chunk=256) > logits
  )  # the measure sees them
  assert memory_of(trainable=trainable, chunk=16) < logits / 3


def test_a_tied_table_is_not_transposed_in_memory():
  how = dict(trainable=False, chunk=16, width=512)
  untied, tied = memory_of(**how), memory_of(tied=True, **how)
  assert tied - untied < 8192 * 512 * 4 / 4


@pytest.mark.parametrize("trainable", [False, True])
def test_a_tied_head_gives_the_same(trainable):
  args = inputs()
  how = dict(chunk=3, trainable=trainable, softcap=3.0, tied=True)
  logps, d_hidden, d_kernel = value_and_grads(*args, **how)
  wanted = naive(*args, 3.0)
  close(logps, wanted[0], 2e-6)
  close(d_hidden, wanted[1], 3e-6)
  if trainable:
    close(d_kernel, wanted[2], 3e-6)


def sharded(args, rows, how):
  """The program on 2 x 4 devices, and what it returns."""
  mesh = jax.make_mesh(
    (2, 4), ("fsdp", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )
  specs = (P("fsdp"), P(rows, "model"), P("fsdp"), P("fsdp"))
  placed = [
    jax.device_put(x, NamedSharding(mesh, spec))
    for x, spec in zip(args, specs, strict=True)
  ]
  columns = NamedSharding(mesh, P(None, "model"))
  fn = functools.partial(value_and_grads, kernel_sharding=columns, **how)
  program = compiled(fn, *placed)
  return program.as_text(), program(*placed)


@pytest.mark.parametrize("rows", [None, "fsdp"])
@pytest.mark.parametrize("trainable", [False, True])
def test_a_sharded_vocabulary_gathers_no_logits(trainable, rows):
  args = inputs(shape=(4, 12, D, V))
  how = dict(chunk=4, trainable=trainable, softcap=3.0)
  text, (logps, d_hidden, d_kernel) = sharded(args, rows, how)
  assert "all-reduce" in text  # the sums over the vocabulary
  gathered = re.findall(r"= (\S+?)\{\S* all-gather(?:-start)?\(", text)
  assert gathered == ([f"f32[{D},{V // 4}]"] if rows else [])
  assert "all-to-all" not in text
  wanted = naive(*args, 3.0)
  close(logps, wanted[0], 2e-6)
  close(d_hidden, wanted[1], 3e-6)
  if trainable:
    close(d_kernel, wanted[2], 3e-6)


def equations(jaxpr):
  """All of a program's equations, those of inner programs included."""
  for eqn in jaxpr.eqns:
    yield eqn
    for value in jax.tree.leaves(eqn.params, is_leaf=_is_program):
      if _is_program(value):
        yield from equations(getattr(value, "jaxpr", value))


def _is_program(value):
  return hasattr(getattr(value, "jaxpr", value), "eqns")


def products(dtype, **how):
  """Matrix products of the log-probs and their gradients, unoptimised."""
  args = inputs(dtype=dtype)
  traced = jax.make_jaxpr(lambda *x: value_and_grads(*x, **how))(*args)
  return [
    e for e in equations(traced.jaxpr) if e.primitive.name == "dot_general"
  ]


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 6])
def test_no_more_than_a_chunk_meets_the_vocabulary_at_once(chunk, trainable):
  shapes = [
    e.outvars[0].aval.shape
    for e in products(jnp.float32, chunk=chunk, trainable=trainable)
  ]
  met = [shape[1] for shape in shapes if shape[-1] == V and len(shape) == 3]
  assert met and max(met) <= chunk


@pytest.mark.parametrize("trainable", [False, True])
def test_float32_products_are_exact_and_only_they(trainable):
  highest = (jax.lax.Precision.HIGHEST,) * 2
  exact = products(jnp.float32, chunk=3, trainable=trainable)
  assert exact and {e.params["precision"] for e in exact} == {highest}
  rounded = products(jnp.bfloat16, chunk=3, trainable=trainable)
  assert rounded and {e.params["precision"] for e in rounded} == {None}
