"""The decoder against the torch models, on tiny random checkpoints.

Weights travel as they do in life: `save_pretrained`, then our loader. They
are drawn large: float32 noise is 2e-6 of the largest logit, the smallest of
forty planted bugs (tanh for erf GELU) 5e-4.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from synpo_jax.models import attention_xla
from synpo_jax.models.captioner import Captioner
from synpo_jax.weights import config_writing
from synpo_jax.weights.config_reading import decoder_config
from tests.support.read_folder import read_folder

LLAMA3 = dict(
  rope_type="llama3",
  factor=8.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=16,
)
COMMON = dict(
  vocab_size=61,
  hidden_size=24,
  intermediate_size=40,
  num_hidden_layers=2,
  max_position_embeddings=64,
  rms_norm_eps=1e-3,
)
CASES = {
  "llama_odd_heads_tied_llama3": (
    transformers.LlamaConfig,
    dict(
      num_attention_heads=9,
      num_key_value_heads=3,
      head_dim=6,
      rope_scaling=LLAMA3,
      rope_theta=500.0,
      tie_word_embeddings=True,
    ),
  ),
  "llama_biases_linear": (
    transformers.LlamaConfig,
    dict(
      num_attention_heads=5,
      num_key_value_heads=1,
      head_dim=8,
      rope_scaling=dict(type="linear", rope_type="linear", factor=4.0),
      attention_bias=True,
      mlp_bias=True,
    ),
  ),
  "mistral_window": (
    transformers.MistralConfig,
    dict(
      num_attention_heads=4,
      num_key_value_heads=2,
      head_dim=10,
      sliding_window=5,
    ),
  ),
  "qwen2_tied_some_layers_slide": (
    transformers.Qwen2Config,
    dict(
      num_attention_heads=3,
      num_key_value_heads=3,
      num_hidden_layers=3,
      use_sliding_window=True,
      sliding_window=4,
      max_window_layers=1,
      tie_word_embeddings=True,
    ),
  ),
  "gemma2": (
    transformers.Gemma2Config,
    dict(
      num_attention_heads=4,
      num_key_value_heads=2,
      head_dim=10,
      query_pre_attn_scalar=7,
      sliding_window=5,
      attn_logit_softcapping=5.0,
      final_logit_softcapping=3.0,
      num_hidden_layers=4,
    ),
  ),
  "gemma3": (
    transformers.Gemma3TextConfig,
    dict(
      num_attention_heads=4,
      num_key_value_heads=1,
      head_dim=8,
      query_pre_attn_scalar=11,
      sliding_window=5,
      rope_theta=1000.0,
      rope_local_base_freq=100.0,
      rope_scaling=dict(rope_type="linear", factor=2.0),
      num_hidden_layers=7,
    ),
  ),
}


def torch_model(name):
  """A torch model in float32, every weight drawn large."""
  config_class, options = CASES[name]
  config = config_class(**(COMMON | options), attn_implementation="eager")
  torch.manual_seed(0)
  model = transformers.AutoModelForCausalLM.from_config(config).eval()
  with torch.no_grad():
    for key, value in model.named_parameters():
      spread = 0.3 if "norm" in key or "bias" in key else 0.25
      value += torch.randn_like(value) * spread
  return model.float()


@pytest.fixture(scope="module", params=list(CASES))
def pair(request, tmp_path_factory):
  torch_side = torch_model(request.param)
  folder = tmp_path_factory.mktemp(request.param)
  torch_side.save_pretrained(folder, max_shard_size="20KB")
  config, params = read_folder(folder)
  return torch_side, Captioner(config), {"params": params}


def rows(length=17):
  """Two rows, the second padded by three on the left: tokens, mask."""
  rng = np.random.default_rng(0)
  tokens = rng.integers(1, 61, (2, length)).astype(np.int32)
  mask = np.ones(tokens.shape, bool)
  mask[1, :3] = False
  return tokens, mask


def run(model, variables, tokens, mask, past=(), start=0):
  x = model.apply(variables, tokens, None, method="embed")
  positions, _ = model.apply(variables, tokens, mask, method="positions")
  hidden, kv = model.apply(
    variables,
    x,
    positions + start,
    mask.astype(jnp.int32),
    past,
    method="decode",
  )
  return model.apply(variables, hidden, method="logits"), kv


def test_logits_equal_torch(pair):
  same_logits(*pair, *rows())


SLIDING = ("mistral_window", "qwen2_tied_some_layers_slide", "gemma2")


@pytest.mark.parametrize("pair", SLIDING, indirect=True)
def test_windows_slide_over_several_strips_of_attention(pair):
  length = 2 * attention_xla.SHORTEST_STRIP + 9
  assert len(attention_xla._strips(length)) == 3
  same_logits(*pair, *rows(length))


def same_logits(torch_side, model, variables, tokens, mask):
  """Both sides give the same logits wherever there is a token."""
  positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
  with torch.no_grad():
    theirs = torch_side(
      input_ids=torch.tensor(tokens, dtype=torch.long),
      attention_mask=torch.tensor(mask, dtype=torch.long),
      position_ids=torch.tensor(positions),
    ).logits.numpy()
  ours, _ = jax.jit(lambda v, t, m: run(model, v, t, m))(
    variables, tokens, mask
  )
  scale = np.abs(theirs).max()
  np.testing.assert_allclose(
    np.asarray(ours)[mask], theirs[mask], atol=1e-5 * scale
  )


def test_config_survives_the_way_back(pair):
  config = pair[1].config.decoder
  assert decoder_config(config_writing.decoder_json(config)) == config


@pytest.mark.parametrize("pair", ["gemma3"], indirect=True)
def test_past_blocks_equal_one_row(pair):
  """A prompt read once, then two continuations of two tokens, one by one."""
  _, model, variables = pair
  tokens, _ = rows()
  prompt, tails = tokens[:1, :9], tokens[:, 9:11]
  whole = np.concatenate([np.repeat(prompt, 2, axis=0), tails], axis=1)

  def both(variables, prompt, tails, whole):
    ones = lambda x: jnp.ones(x.shape, bool)  # noqa: E731
    want, _ = run(model, variables, whole, ones(whole))
    _, kv = run(model, variables, prompt, ones(prompt))
    first, more = run(
      model, variables, tails[:, :1], ones(tails[:, :1]), (kv,), 9
    )
    second, _ = run(
      model, variables, tails[:, 1:], ones(tails[:, 1:]), (kv, more), 10
    )
    return jnp.concatenate([first, second], axis=1), want[:, 9:]

  ours, want = jax.jit(both)(variables, prompt, tails, whole)
  np.testing.assert_allclose(ours, want, atol=1e-5 * np.abs(want).max())
