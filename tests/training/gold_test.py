"""A reference caption behind the prompt of a pair, learnt from with it."""

import json

import jax
import numpy as np
import pytest

from configs import vdc
from synpo_jax.data import pipeline, text, video
from synpo_jax.models import initial
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import LoraConfig
from synpo_jax.training import gradients, update
from synpo_jax.training.pair_logps import Scoring
from synpo_jax.weights.config_reading import captioner_config
from tests.support.losses_oracle import dpo

LLM = dict(
  model_type="llama",
  hidden_size=16,
  intermediate_size=16,
  num_hidden_layers=1,
  num_attention_heads=2,
  num_key_value_heads=2,
)
GOLD = ("the red circle stops", "a blue square moves left and stops there")


@pytest.fixture(scope="module")
def tokenizer():
  return text.load_tokenizer("synpo_jax/assets/tiny")


@pytest.fixture(scope="module")
def model(tokenizer):
  """A language model whose adapter does something, split in two trees."""
  config = captioner_config(LLM | dict(vocab_size=len(tokenizer)))
  made = Captioner(config, LoraConfig(2, 2.0, 0.0))
  variables = {
    "params": jax.tree.map(lambda x: 4 * x, initial.params(made, 0)),
    "lora": jax.tree.map(lambda x: x + 0.3, initial.adapter(made, 1)),
  }
  return made, *update.split(variables, "lora/.*")


def read(folder, tokenizer, captions, **fields):
  """The update that two rows of text alone make."""
  rows = [
    dict(question="What moves?", chosen="the red circle", rejected="no square")
    | {key: values[n] for key, values in fields.items()}
    for n in range(2)
  ]
  path = folder / "pairs.jsonl"
  path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  settings = vdc.data() | dict(
    pairs=str(path), videos="", question=None, min_score_gap=None
  )
  settings |= dict(batch_size=2, accumulation=1, max_len=128, workers=0)
  settings |= dict(prefix_buckets=32, response_buckets=(16,), limits=None)
  data = pipeline.make(
    pipeline.Settings(**settings),
    rule=video.FrameRule(1, 1, 1.0),
    preprocess=video.Preprocess(size=(1, 1)),
    tokenizer=tokenizer,
    blocks=lambda frames: [],
    captions=captions,
    epochs=1,
    seed=0,
  )
  return data.batches[0]


def scored(model, layout, name, batch):
  """Log-probs of an update's captions, those of the reference, its sums."""
  made, *state = model
  objective = update.make_objective(
    made,
    Scoring(layout, 8, None, None),
    name=name,
    coefficients=(vdc.LOSSES | vdc.MIXTURES)[name],
  )
  logps, refs = jax.jit(objective.score)(*state, batch.micro(0), None)
  step = jax.jit(lambda *args: gradients.value_and_grad(objective, *args, None))
  sums, grads = step(*state, batch)
  return np.float64(logps), refs, sums, grads


@pytest.mark.parametrize(
  "layout", ["shared", pytest.param("two_sequence", marks=pytest.mark.slow)]
)
def test_gdpo_learns_from_pair_and_reference_caption(
  tmp_path, tokenizer, model, layout
):
  """The loss in float64; the third caption sees the prompt and itself alone."""
  batch = read(tmp_path, tokenizer, 3, reference_caption=GOLD)
  logps, refs, sums, grads = scored(model, layout, "gdpo", batch)
  assert logps.shape[:2] == (2, 3) and refs.shape == (2, 3)
  alone = read(tmp_path, tokenizer, 1, chosen=GOLD)
  same = alone.response[0, :, 0], batch.response[0, :, 2]
  np.testing.assert_array_equal(*same)
  mask = batch.response_mask[0]
  single, _, _, anchor = scored(model, layout, "sft", alone)
  np.testing.assert_allclose(
    logps[:, 2][mask[:, 2]], single[:, 0][mask[:, 2]], atol=2e-5
  )
  wanted = 0.0
  for b in range(2):
    w, z, g = (logps[b, c][mask[b, c]] for c in range(3))
    wanted += dpo(w, z, *np.float64(refs[b, :2]), None) - 0.1 * g.mean()
  np.testing.assert_allclose(sums["loss"], wanted, rtol=1e-5)
  gold = -sum(logps[b, 2][mask[b, 2]].mean() for b in range(2))
  np.testing.assert_allclose(sums["gold_logp"], -gold, rtol=1e-5)
  pairs = read(tmp_path, tokenizer, 2, reference_caption=GOLD)
  _, _, _, ranking = scored(model, layout, "dpo", pairs)
  found, pull, push = map(flat, (grads, ranking, anchor))
  wanted = pull + 0.1 * push
  np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
  assert np.abs(push).max() > 0.1 * np.abs(pull).max()


def flat(tree):
  return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
