"""Runs as training leaves them, to be exported, and what ours says of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import torch

from synpo_jax.generation import decode, decode_loop, sampling
from synpo_jax.models import initial
from synpo_jax.models.config import LoraConfig
from synpo_jax.runtime.workdir import claim_workdir
from synpo_jax.training import checkpoint

TEXT = dict(
  vocab_size=61,
  hidden_size=24,
  intermediate_size=40,
  num_hidden_layers=3,
  num_attention_heads=4,
  num_key_value_heads=2,
  eos_token_id=2,
  bos_token_id=1,
)
ADAPTER = LoraConfig(rank=4, alpha=6.0, dropout=0.05)
PROMPT = np.array([[1, 5, 33, 7, 60, 12]], np.int32)
NEW = 8  # tokens generated


def random_(model, scale=0.3):
  """Gives a torch model random weights, and returns it."""
  torch.manual_seed(0)
  with torch.no_grad():
    for value in model.parameters():
      value.copy_(torch.randn_like(value) * scale)
  return model.eval()


def write_run(workdir, base, trained, lora=ADAPTER, **model):
  """A workdir as training leaves it, after one update."""
  section = dict(
    checkpoint=str(base),
    arch={},
    tokenizer="",
    kept_ratio=None,
    dtype="float32",
    remat="none",
    attention="xla",
  )
  adapter = dataclasses.asdict(lora)
  loss = dict(name="simpo", coefficients=dict(beta=2.0, gamma=0.5))
  config = dict(model=section | model, lora=adapter, loss=loss, seed=3)
  claim_workdir(workdir, config)
  state = {"step": jnp.ones((), jnp.int32), "trained": trained}
  with checkpoint.open_manager(workdir, keep=1) as manager:
    checkpoint.save(manager, 1, state, {"next": 1}, config, {})
  return workdir


def random_lora(model):
  """An adapter whose effect is as large as the weights'."""
  key = jax.random.key(1)
  return jax.tree.map(
    lambda x: 0.3 * jax.random.normal(key, x.shape),
    initial.adapter(model, seed=0),
  )


def our_logits(module, variables, tokens):
  """Logits [B, T, V] of text alone."""
  return np.asarray(
    jax.jit(lambda v, t: module.apply(v, None, t))(variables, tokens)
  )


def our_tokens(module, variables, prefix, **inputs):
  """The greedy continuation of one row."""
  made = decode.generate(
    module,
    variables,
    decode_loop.Prompts(prefix, np.ones_like(prefix, bool), **inputs),
    decode.row_keys(0, ["a"]),
    candidates=1,
    max_new_tokens=NEW,
    sampling=sampling.GREEDY,
    eos_ids=(2,),
  )
  return made.tokens[0, 0].tolist()
