"""Token importance: zero without a video to lose, measured where it counts."""

import jax
import numpy as np
import pytest

from configs import warm_start
from synpo_jax import importance
from synpo_jax.data.batch import Batch
from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.models import sharding
from synpo_jax.training.pair_logps import Scoring
from synpo_jax.weights import loading

SCORING = Scoring("shared", 16, head_sharding=None, rows_sharding=None)


@pytest.fixture(scope="module")
def setting():
  """A small random captioner, its LoRA off and on, and a batch of two."""
  llm = warm_start.LLM | dict(hidden_size=24, intermediate_size=32)
  llm |= dict(num_hidden_layers=1, num_attention_heads=2, vocab_size=50)
  llm |= dict(num_key_value_heads=2)
  tower = warm_start.TOWER | dict(
    image_size=48, kept_ratio=0.3, hidden_size=16, intermediate_size=24
  )
  tower |= dict(num_hidden_layers=2, num_attention_heads=2, patch_size=16)
  mesh = sharding.make_mesh(data=-1, fsdp=1, model=1)
  model = loading.make_model(
    checkpoint="",
    arch=dict(llm=llm, visual_encoder=tower, projector=dict(depth=2)),
    kept_ratio=None,
    dtype="float32",
    base="float",
    remat="none",
    attention="xla",
    adapter=dict(rank=2, alpha=2.0, dropout=0.0),
    mesh=mesh,
  )
  base = loading.load_variables(model, "", mesh, 0)
  base["params"] = jax.tree.map(lambda x: 8 * x, base["params"])
  tuned = base | {"lora": jax.tree.map(lambda x: x + 0.5, base["lora"])}
  rng = np.random.default_rng(0)
  count = sum(model.config.blocks(2))
  prefix = np.full((2, count + 1), IMAGE_TOKEN, np.int32)
  prefix[:, 0] = 1
  batch = Batch(
    prefix=prefix,
    prefix_mask=np.ones(prefix.shape, bool),
    response=rng.integers(2, 50, size=(2, 2, 5)).astype(np.int32),
    response_mask=np.arange(5) < np.array([[[5], [3]], [[2], [4]]]),
    weight=np.array([1, 0], np.float32),
    row=np.array([7, -1], np.int32),
    frames=rng.integers(0, 256, size=(2, 2, 48, 48, 3)).astype(np.uint8),
  )
  measure = jax.jit(importance.make_measure(model, SCORING))
  return model, base, tuned, batch, measure


def test_a_blank_video_makes_no_token_important(setting):
  model, base, tuned, batch, measure = setting
  before, without, _ = measure(base, tuned, batch)
  assert np.abs(before - without).max() > 1e-2
  blank = np.asarray(importance.blanked(model, batch.frames))
  mean = np.asarray(model.config.tower.mean)
  assert np.abs(blank[0, 0, 0, 0] / 255 - mean).max() <= 0.5 / 255 + 1e-9
  before, without, _ = measure(base, tuned, batch._replace(frames=blank))
  # Two programs in float32: 1.1e-5 apart, where a real video is 1e-2.
  np.testing.assert_allclose(before, without, rtol=3e-5, atol=1e-5)


def test_training_moves_the_last_row_alone(setting):
  _, base, tuned, batch, measure = setting
  first = np.asarray(measure(base, base, batch))
  np.testing.assert_allclose(first[0], first[2], rtol=1e-5, atol=1e-5)
  second = np.asarray(measure(base, tuned, batch))
  np.testing.assert_allclose(second[:2], first[:2], rtol=1e-5, atol=1e-5)
  assert np.abs(second[2] - second[0]).max() > 1e-2


class Words:
  """A tokenizer that names a token by its number."""

  def convert_ids_to_tokens(self, token):
    return f"w{token}"


def test_rows_are_the_real_tokens_of_real_references(setting):
  *_, batch, _ = setting
  logps = np.arange(30, dtype=np.float32).reshape(3, 2, 5) ** 2
  names = {7: "clip.mp4"}
  rows = importance.rows_of(logps, batch, names, Words())
  assert [row["position"] for row in rows] == [0, 1, 2, 3, 4]
  assert rows[2] == {
    "video": "clip.mp4",
    "position": 2,
    "token": f"w{batch.response[0, 0, 2]}",
    "importance": 4.0 - 144.0,
    "logp_before": 4.0,
    "logp_after": 484.0,
  }


def test_a_folder_without_a_run_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="config.json not found"):
    importance.run(tmp_path, 4)
