"""LoRA: where its weights start, what it adds, how its gradients are made."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synpo_jax.models import initial
from synpo_jax.models import lora as lora_lib
from synpo_jax.models.captioner import Captioner, shapes
from synpo_jax.models.config import LoraConfig
from synpo_jax.weights.config_reading import captioner_config

TINY = captioner_config(
  dict(
    model_type="llama",
    vocab_size=50,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
  )
)
LORA = LoraConfig(rank=4, alpha=2.0, dropout=0.5)
AURORACAP_7B = dict(
  llm=dict(
    model_type="llama",
    rms_norm_eps=1e-5,
    rope_scaling=dict(type="linear", factor=4.0),
  ),
  visual_encoder=dict(
    model_type="clip_vision_model",
    hidden_size=1280,
    intermediate_size=5120,
    num_hidden_layers=32,
    num_attention_heads=16,
    image_size=378,
    patch_size=14,
  ),
  projector=dict(),
)


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_full_size_shapes():
  """Counts of the official checkpoint; its last tower layer never runs."""
  config = captioner_config(AURORACAP_7B).with_kept_ratio(0.1)
  tree = shapes(Captioner(config, LoraConfig(128, 64.0, 0.05)))
  params = tree["params"]
  assert count(params["decoder"]) == 6_738_415_616
  assert count(params["projector"]) == 22_028_288
  layer = 12 * 1280**2 + 13 * 1280
  assert count(params["tower"]) + layer + 2 * 1280 == 631_371_520
  assert count(tree["lora"]) == 319_815_680
  assert config.tokens_per_frame == 109
  assert config.blocks(8) == [109] * 8


def test_start():
  model = Captioner(TINY, LORA, dtype=jnp.bfloat16)
  tree = initial.adapter(model, 0)
  for path, leaf in jax.tree.leaves_with_path(tree):
    assert leaf.dtype == jnp.float32
    if path[-1].key == "b":
      assert not leaf.any()
      continue
    bound = leaf.shape[1] ** -0.5
    assert 0.95 * bound < jnp.abs(leaf).max() <= bound
    assert abs(float(leaf.std()) - bound / 3**0.5) < 0.1 * bound
  attn = tree["decoder"]["layers"]["attn"]
  assert not np.allclose(attn["q"]["a"], attn["k"]["a"])
  again = initial.adapter(model, 0)["decoder"]["layers"]["attn"]
  np.testing.assert_array_equal(attn["q"]["a"], again["q"]["a"])


def test_adapter_gradients_are_not_rounded():
  """bfloat16 in and out, yet a's and b's gradients keep float32 sums."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
  x, a, b = draw(3, 40, 16), draw(16, 4), draw(4, 24)
  g = jnp.asarray(draw(3, 40, 24), jnp.bfloat16)
  half = jnp.asarray(x, jnp.bfloat16)
  out, back = jax.vjp(partial(lora_lib.adapter, scale=0.5), half, a, b)
  dx, da, db = back(g)
  assert out.dtype == dx.dtype == jnp.bfloat16
  assert da.dtype == db.dtype == jnp.float32
  x64, g64 = np.float64(half).reshape(-1, 16), np.float64(g).reshape(-1, 24)
  a64, b64 = np.float64(a), np.float64(b)
  np.testing.assert_allclose(
    np.float64(out).reshape(-1, 24), 0.5 * x64 @ a64 @ b64, rtol=0.05, atol=0.2
  )
  np.testing.assert_allclose(da, x64.T @ (0.5 * g64 @ b64.T), atol=0.3)
  np.testing.assert_allclose(db, (x64 @ a64).T @ (0.5 * g64), atol=0.3)
  np.testing.assert_allclose(
    np.float64(dx).reshape(-1, 16), 0.5 * g64 @ b64.T @ a64.T, atol=0.3
  )
  for gradient in (da, db):  # more bits than bfloat16 has
    rounded = gradient.astype(jnp.bfloat16).astype(jnp.float32)
    assert (rounded != gradient).mean() > 0.9


@pytest.fixture(scope="module")
def variables():
  model = Captioner(TINY, LORA)
  params = initial.params(model, 0)
  tree = initial.adapter(model, 1)
  noise = jax.tree.map(
    lambda leaf: 0.1 * np.random.default_rng(leaf.size).normal(size=leaf.shape),
    tree,
  )
  tree = jax.tree.map(lambda x, y: x + y.astype(np.float32), tree, noise)
  params = jax.tree.map(lambda leaf: 5 * leaf, params)
  return {"params": params, "lora": tree}


def objective(model, lora, params, key=None):
  variables = {"params": params, "lora": lora}
  apply = partial(model.apply, variables)
  tokens = jnp.arange(14).reshape(2, 7)
  x = apply(tokens, None, method="embed")
  mask = jnp.ones(tokens.shape, jnp.int32)
  positions = jnp.cumsum(mask, axis=1) - 1
  rngs = {} if key is None else {"dropout": key}
  hidden, _ = apply(
    x, positions, mask, (), key is None, rngs=rngs, method="decode"
  )
  return jnp.var(apply(hidden, method="logits"))


def grad_of(model):
  return jax.value_and_grad(partial(objective, model))


def count_of(name, jaxpr):
  """How often a jaxpr has an operation, those of inner ones included."""
  found = sum(eqn.primitive.name == name for eqn in jaxpr.eqns)
  for eqn in jaxpr.eqns:
    for value in eqn.params.values():
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        found += count_of(name, inner)
  return found


@pytest.mark.parametrize(
  "remat, times", [("none", 4), ("save_dots", 4), ("full", 8)]
)
def test_dropout_is_drawn_once_for_an_input(variables, remat, times):
  """Of q, k, v; of o; of gate, up; of down. "full" draws again."""
  step = grad_of(Captioner(TINY, LORA, remat=remat))
  args = variables["lora"], variables["params"], jax.random.key(3)
  assert count_of("rem", jax.make_jaxpr(step)(*args).jaxpr) == times


@pytest.mark.slow
def test_remat_changes_memory_only(variables):
  """Same loss and gradients; the less is saved, the more is multiplied.

  "save_dots" multiplies nothing again, adapters' inner products neither.
  """
  key, counts, results = jax.random.key(3), {}, {}
  for remat in ("none", "save_dots", "save_attention", "full"):
    model = Captioner(TINY, LORA, remat=remat)
    step = jax.jit(grad_of(model))
    args = variables["lora"], variables["params"], key
    counts[remat] = count_of("dot_general", jax.make_jaxpr(step)(*args).jaxpr)
    if remat != "save_attention":
      results[remat] = step(*args)
  assert counts["none"] == counts["save_dots"] < counts["save_attention"]
  assert counts["save_attention"] < counts["full"]
  same = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
  for remat in ("save_dots", "full"):
    jax.tree.map(same, results[remat], results["none"])


def test_unknown_remat_is_refused(variables):
  model = Captioner(TINY, remat="some")
  with pytest.raises(ValueError, match="'some' is not one of none, full"):
    model.apply(variables, None, jnp.ones((1, 2), jnp.int32))


def test_dropout_touches_the_adapter_only(variables):
  """On with a key; off without one, and without an adapter no effect."""
  model = Captioner(TINY, LORA)
  run = jax.jit(partial(objective, model))
  lora, params = variables["lora"], variables["params"]
  plain = run(lora, params)
  one = run(lora, params, jax.random.key(1))
  two = run(lora, params, jax.random.key(2))
  assert len({float(plain), float(one), float(two)}) == 3
  assert float(run(lora, params, jax.random.key(1))) == float(one)
  off = jax.tree.map_with_path(
    lambda path, leaf: leaf * (path[-1].key == "a"), lora
  )
  base = run(off, params)
  assert float(run(off, params, jax.random.key(1))) == float(base)


def test_alpha_scales_the_adapter(variables):
  """alpha 2 with b equals alpha 1 with 2 b."""
  lora, params = variables["lora"], variables["params"]
  doubled = jax.tree.map_with_path(
    lambda path, leaf: leaf * (1 + (path[-1].key == "b")), lora
  )
  half = dataclasses.replace(LORA, alpha=1.0)
  np.testing.assert_allclose(
    jax.jit(partial(objective, Captioner(TINY, half)))(doubled, params),
    jax.jit(partial(objective, Captioner(TINY, LORA)))(lora, params),
    rtol=1e-6,
  )


def test_another_seed_draws_other_weights():
  model = Captioner(TINY, LORA)
  for draw in (initial.params, initial.adapter):
    one, other = (
      draw(model, seed)["decoder"]["layers"]["attn"]["q"] for seed in (0, 1)
    )
    name = "kernel" if "kernel" in one else "a"
    assert not np.isclose(one[name], other[name]).any(axis=(1, 2)).all()
    assert (
      abs(np.corrcoef(np.ravel(one[name]), np.ravel(other[name]))[0, 1]) < 0.2
    )
