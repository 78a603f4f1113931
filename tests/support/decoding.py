"""Small models, their prompts, and a call of `generate`."""

import jax
import jax.numpy as jnp
import numpy as np

from synpo_jax.generation import decode
from synpo_jax.generation.decode_loop import Prompts
from synpo_jax.generation.sampling import GREEDY
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import (
  CaptionerConfig,
  DecoderConfig,
  RopeScaling,
)

V, EOS = 64, 2
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


def prompts(lengths, width, seed=0):
  """Random prompts of these lengths, left-padded to `width` with rubbish."""
  rng = np.random.default_rng(seed)
  ids = rng.integers(3, V, (len(lengths), max(lengths)))
  mask = np.arange(width)[None] >= width - np.array(lengths)[:, None]
  prefix = rng.integers(3, V, (len(lengths), width))
  for row, length in enumerate(lengths):
    prefix[row, width - length :] = ids[row, :length]
  return Prompts(prefix.astype(np.int32), mask)


def run(model, variables, batch, keys, **kwargs):
  settings = dict(
    candidates=1, max_new_tokens=7, sampling=GREEDY, eos_ids=(EOS,)
  )
  return decode.generate(
    model, variables, batch, keys, **{**settings, **kwargs}
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
