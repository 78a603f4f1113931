"""Generation from caches against plain forward passes and the golden run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synpo_jax import decode, sampling
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import (
  CaptionerConfig,
  DecoderConfig,
  RopeScaling,
)
from synpo_jax.sampling import GREEDY, Sampling

V, EOS = 61, 2
SAMPLED = Sampling(temperature=1.2, top_k=20, top_p=0.95)
LLAMA = dict(
  family="llama",
  vocab=V,
  width=32,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=8,
  mlp_width=48,
  activation="silu",
  norm_eps=1e-5,
  rope_theta=1e4,
  tied=False,
)
GEMMA = dict(
  tied=True,
  rope_local_theta=1e3,
  window=6,
  sliding=(True, False),
  attn_softcap=5.0,
  final_softcap=9.0,
  query_scale=0.3,
  qk_norm=True,
  post_norms=True,
  unit_offset_norm=True,
  embed_scale=True,
)
MISTRAL = dict(
  rope_scaling=RopeScaling("llama3", 4.0, 1.0, 4.0, 16),
  qkv_bias=True,
  o_bias=True,
  mlp_bias=True,
  window=5,
  sliding=(True, True),
)
FAMILIES = dict(
  llama=dict(rope_scaling=RopeScaling("linear", 4.0)),
  gemma=GEMMA,
  mistral=MISTRAL,
)


def make(family):
  """A random language model whose next token is far from certain."""
  config = CaptionerConfig(DecoderConfig(**{**LLAMA, **FAMILIES[family]}))
  model = Captioner(config, dtype=jnp.dtype("float32"))
  variables = model.init(jax.random.key(3), None, jnp.zeros((1, 2), jnp.int32))

  def stir(path, x):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    seed = sum(map(ord, name))
    noise = np.random.default_rng(seed).normal(size=x.shape)
    return jnp.asarray(x + 0.2 * noise, jnp.float32)

  return model, jax.tree.map_with_path(stir, variables)


def prompts(lengths, width, seed=0):
  """Random prompts of these lengths, left-padded to `width` with rubbish."""
  rng = np.random.default_rng(seed)
  ids = rng.integers(3, V, (len(lengths), max(lengths)))
  mask = np.arange(width)[None] >= width - np.array(lengths)[:, None]
  prefix = rng.integers(3, V, (len(lengths), width))
  for row, length in enumerate(lengths):
    prefix[row, width - length :] = ids[row, :length]
  return dict(prefix=prefix.astype(np.int32), prefix_mask=mask)


def plain_logits(model, variables, rows):
  """Logits [N,T,V] of whole unpadded-prefix rows, without any cache."""
  longest = max(map(len, rows))
  tokens = np.zeros((len(rows), longest), np.int32)
  for i, row in enumerate(rows):
    tokens[i, : len(row)] = row
  return np.asarray(jax.jit(model.apply)(variables, None, tokens))


def check_rows(model, variables, batch, keys, out, how, choose=True):
  """Every token and log-prob follows from one plain forward per row."""
  B, C, R = out.tokens.shape
  texts = [
    np.concatenate([batch["prefix"][b][batch["prefix_mask"][b]], row])
    for b in range(B)
    for row in out.tokens[b]
  ]
  logits = plain_logits(model, variables, texts)
  for n, text in enumerate(texts):
    b, c = divmod(n, C)
    length = int(out.lengths[b, c])
    start = len(text) - R
    steps = jnp.asarray(logits[n, start - 1 : start - 1 + length])
    tokens = jnp.asarray(text[start : start + length])
    want = sampling.token_logps(steps, tokens)
    # Rounding 4e-6; a position off by one is 1e-1.
    np.testing.assert_allclose(out.logps[b, c, :length], want, atol=3e-5)
    assert not out.logps[b, c, length:].any()
    assert (out.tokens[b, c, length:] == EOS).all()
    if choose:
      fold = jax.random.fold_in
      key = fold(keys[b], c)
      step_keys = jax.vmap(fold, (None, 0))(key, jnp.arange(length))
      again = sampling.choose(step_keys, steps, how, EOS)
      np.testing.assert_array_equal(tokens, again)


def run(model, variables, batch, keys, **kwargs):
  settings = dict(candidates=1, max_new_tokens=12, how=GREEDY, eos_ids=(EOS,))
  return decode.generate(
    model, variables, batch, keys, **{**settings, **kwargs}
  )


@pytest.fixture
def small_blocks(monkeypatch):
  """Blocks of 3, 3 and 6 tokens: long captions without the time."""
  monkeypatch.setattr(decode, "FIRST_BLOCK", 3)
  monkeypatch.setattr(decode, "LARGEST_BLOCK", 6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("how", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_cached_decoding_equals_the_full_forward(family, how, small_blocks):
  model, variables = make(family)
  batch = prompts([9, 4, 7], width=11)
  keys = decode.row_keys(0, ["a", "b", "c"])
  out = run(
    model, variables, batch, keys, how=how, candidates=1 if how == GREEDY else 3
  )
  check_rows(model, variables, batch, keys, out, how)
  assert how == GREEDY or len(set(map(tuple, out.tokens[0]))) > 1


def test_block_lengths_cover_all_tokens_but_the_last():
  assert decode.blocks(1) == []
  assert decode.blocks(2) == [(0, 1)]
  assert decode.blocks(65) == [(0, 64)]
  assert [size for _, size in decode.blocks(801)] == [64, 64, 128, 256, 256, 32]
