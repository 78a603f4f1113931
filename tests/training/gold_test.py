"""A reference caption behind the prompt of a pair, learnt from with it."""

import numpy as np
import pytest

from configs import vdc
from synpo_jax.data import text
from tests.support import text_update
from tests.support.losses_oracle import dpo
from tests.support.text_update import flat

GOLD = ("the red circle stops", "a blue square moves left and stops there")


@pytest.fixture(scope="module")
def tokenizer():
  return text.load_tokenizer("synpo_jax/assets/tiny")


@pytest.fixture(scope="module")
def model(tokenizer):
  return text_update.model(len(tokenizer))


def read(folder, tokenizer, captions, **fields):
  """The update that two rows of text alone make."""
  rows = [
    dict(question="What moves?", chosen="the red circle", rejected="no square")
    | {key: values[n] for key, values in fields.items()}
    for n in range(2)
  ]
  path = folder / "pairs.jsonl"
  return text_update.data(path, tokenizer, captions, rows).batches[0]


def scored(model, layout, name, batch):
  coefficients = (vdc.LOSSES | vdc.MIXTURES)[name]
  loss = dict(name=name, coefficients=coefficients)
  return text_update.scored(model, layout, batch, **loss)


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
