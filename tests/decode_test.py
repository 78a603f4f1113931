"""Generation from caches against plain forward passes and the golden run."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synpo_jax import decode, decode_loop, sampling
from synpo_jax.models import weights
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import (
  CaptionerConfig,
  DecoderConfig,
  RopeScaling,
)
from synpo_jax.models.decoder import KV
from synpo_jax.sampling import GREEDY, Sampling
from tests.captioner_test import expand, write_folder

GOLDEN = Path(__file__).parent / "golden"
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


@pytest.fixture(scope="module", params=["a", "b"])
def golden(request, tmp_path_factory):
  """Model, variables and both streams' batches of the official CD run."""
  z = np.load(GOLDEN / f"captioner_{request.param}.npz")
  folder = tmp_path_factory.mktemp("golden")
  write_folder(z, folder)
  config, params = weights.load(folder, dtype=jnp.float32)
  starts = np.cumsum(z["frames_per_pair"]) - z["frames_per_pair"]
  K = z["visual_tokens"].shape[1]

  def batch(ids, frames):
    rows = [expand(z[f"{ids}/{b}"], K) for b in range(len(starts))]
    width = max(map(len, rows)) + 2
    picked = [z["visual_tokens"][f].reshape(-1, 48) for f in frames]
    visual = np.zeros((len(rows), max(map(len, picked)), 48), np.float32)
    prefix = np.zeros((len(rows), width), np.int32)
    mask = np.zeros(prefix.shape, bool)
    for b, (row, seen) in enumerate(zip(rows, picked, strict=True)):
      prefix[b, width - len(row) :], mask[b, width - len(row) :] = row, True
      visual[b, : len(seen)] = seen
    return dict(prefix=prefix, prefix_mask=mask, visual=visual)

  sizes = z["frames_per_pair"]
  all_frames = [starts[b] + np.arange(n) for b, n in enumerate(sizes)]
  few_frames = [s + z[f"cd/contrast_frames/{b}"] for b, s in enumerate(starts)]
  full = batch("input_ids", all_frames)
  weak = batch("cd/contrast_input_ids", few_frames)
  return z, Captioner(config), {"params": params}, full, weak


def test_contrastive_decoding_is_the_official_one(golden, small_blocks):
  z, model, variables, full, weak = golden
  B, R = z["cd/tokens"].shape
  keys = decode.row_keys(0, [str(b) for b in range(B)])
  weight = np.full(B, z["cd/weight"], np.float32)
  contrast = decode.Contrast(weak, weight, None)
  out = run(model, variables, full, keys, max_new_tokens=R, contrast=contrast)
  np.testing.assert_array_equal(out.tokens[:, 0], z["cd/tokens"])
  mixed = 1.5 * z["cd/full_logits"] - 0.5 * z["cd/contrast_logits"]
  total = np.log(np.exp(np.float64(mixed)).sum(-1))
  for b, c, t in np.ndindex(out.tokens.shape):
    if t < out.lengths[b, c]:
      want = mixed[t, b, out.tokens[b, c, t]] - total[t, b]
      np.testing.assert_allclose(out.logps[b, c, t], want, atol=1e-4)


@pytest.mark.parametrize("stream", ["full", "contrast"])
def test_step_logits_are_the_official_ones(golden, stream):
  """Fed the official tokens one by one, each stream from its own cache."""
  z, model, variables, *batches = golden
  batch = batches[stream == "contrast"]
  B, R = z["cd/tokens"].shape
  prompt, place, logits = jax.jit(
    lambda v, b: decode_loop.prefill(model, v, b)
  )(variables, batch)
  spots = jnp.arange(R, dtype=jnp.int32)[None]

  @jax.jit
  def step(variables, k, v, t, token):
    where = place[:, None] + spots
    own = KV(k, v, jnp.broadcast_to(spots < t, where.shape), where)
    mask = jnp.ones((B, 1), bool)
    new, logits = decode_loop.read_tokens(
      model, variables, token, mask, place + t, (prompt, own)
    )
    update = jax.lax.dynamic_update_slice_in_dim
    return update(k, new.k, t, 2), update(v, new.v, t, 2), logits

  k = v = jnp.zeros((*prompt.k.shape[:2], R, *prompt.k.shape[3:]))
  for t in range(R):
    want = z[f"cd/{stream}_logits"][t]
    np.testing.assert_allclose(logits, want, atol=1e-4)
    token = jnp.asarray(z["cd/tokens"][:, t : t + 1], jnp.int32)
    k, v, logits = step(variables, k, v, jnp.int32(t), token)
