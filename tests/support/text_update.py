"""An update of rows of text alone, through a language model of one layer."""

import json

import jax
import numpy as np

from configs import vdc
from synpo_jax.data import pipeline, video
from synpo_jax.models import initial
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import LoraConfig
from synpo_jax.training import gradients, update
from synpo_jax.training.pair_logps import Scoring
from synpo_jax.weights.config_reading import captioner_config

LLM = dict(
  model_type="llama",
  hidden_size=16,
  intermediate_size=16,
  num_hidden_layers=1,
  num_attention_heads=2,
  num_key_value_heads=2,
)


def model(vocabulary):
  """A language model whose adapter does something, and its two trees."""
  config = captioner_config(LLM | dict(vocab_size=vocabulary))
  made = Captioner(config, LoraConfig(2, 2.0, 0.0))
  variables = {
    "params": jax.tree.map(lambda x: 4 * x, initial.params(made, 0)),
    "lora": jax.tree.map(lambda x: x + 0.3, initial.adapter(made, 1)),
  }
  return made, *update.split(variables, "lora/.*")


def data(path, tokenizer, captions, rows, **settings):
  """The data of a run on rows, which are written to `path`."""
  path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  own = vdc.data() | dict(
    pairs=str(path), videos="", question=None, min_score_gap=None
  )
  own |= dict(batch_size=len(rows), accumulation=1, max_len=128, workers=0)
  own |= dict(prefix_buckets=32, response_buckets=(16,), limits=None)
  return pipeline.make(
    pipeline.Settings(**own | settings),
    rule=video.FrameRule(1, 1, 1.0),
    preprocess=video.Preprocess(size=(1, 1)),
    tokenizer=tokenizer,
    blocks=lambda frames: [],
    captions=captions,
    epochs=1,
    seed=0,
  )


def objective(made, layout, **loss):
  """The objective of a config's `loss` section."""
  return update.make_objective(made, Scoring(layout, 8, None, None), **loss)


def scored(state, layout, batch, **loss):
  """Log-probs of an update's captions, those of the reference, its sums and
  gradients; of its first micro-batch the log-probs."""
  made, *trees = state
  goal = objective(made, layout, **loss)
  logps, refs = jax.jit(goal.score)(*trees, batch.micro(0), None)
  step = jax.jit(lambda *args: gradients.value_and_grad(goal, *args, None))
  sums, grads = step(*trees, batch)
  return np.float64(logps), refs, sums, grads


def flat(tree):
  """All gradients of a tree as one vector."""
  return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
