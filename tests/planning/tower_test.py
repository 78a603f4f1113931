"""What the trained part of a tower saves, as a plan counts it."""

import jax
import numpy as np
import pytest

from configs import vdc
from synpo_jax.planning import abstract_step, outcome
from tests.support import families, run_config


def residuals(step) -> int:
  """Bytes of activations that the tower's backward pass is handed."""
  model, features = step.model, step.batch.features
  pairs, steps, *size = features.shape[1:]
  begun = jax.ShapeDtypeStruct((pairs * steps, *size), model.dtype)

  def saved(params, lora, begun):
    def run(lora):
      variables = {"params": params, "lora": lora}
      finish = lambda m, x: m.tower.finish(x)  # noqa: E731
      return model.apply(variables, begun, method=finish)

    return jax.vjp(run, lora)[1]

  held = step.frozen["params"], step.state.trained["lora"]
  weights = {leaf.shape for leaf in jax.tree.leaves(held)}
  found = jax.tree.leaves(jax.eval_shape(saved, *held, begun))
  return sum(
    leaf.size * leaf.dtype.itemsize
    for leaf in found
    if leaf.shape not in weights and leaf.dtype == model.dtype
  )


def clip(tmp_path, kept_ratio):
  c = run_config.get_config(tmp_path)
  c.model.arch.visual_encoder.kept_ratio = kept_ratio
  return c


def qwen(tmp_path, _):
  c = vdc.get_config("model=qwen3_vl_2b")
  c.model.update(checkpoint="", arch=families.ARCHITECTURES["qwen3_vl"])
  c.pixels.resize = "crop"
  c.data.update(prefix_buckets=1, response_buckets=(16,), frame_buckets=(8,))
  c.frames.update(min_frames=2, max_frames=8)
  return c


@pytest.mark.parametrize(
  "make, kept_ratio, remat",
  [
    (clip, 1.0, "save_dots"),
    (clip, 1.0, "full"),
    (clip, 0.3, "save_attention"),
    (qwen, 1.0, "save_dots"),
  ],
)
def test_a_trained_tower_is_counted(tmp_path, make, kept_ratio, remat):
  """Never more than it saves, and nearly all of it."""
  c = make(tmp_path, kept_ratio)
  c.model.remat, c.data.batch_size, c.lora.rank = remat, 2, 2
  step = abstract_step.build(c, jax.devices()[:1])
  assert outcome.saved_by_tower(step) == 0.0
  c.lora.update(where=("decoder", "tower"), tower_layers=1)
  step = abstract_step.build(c, jax.devices()[:1])
  counted, actual = outcome.saved_by_tower(step), residuals(step)
  assert 0.9 * actual < counted <= actual
  known = outcome.saved(step) + outcome.held(step.state.trained)
  before = outcome.before_compiling(step, 2.0**40)
  np.testing.assert_allclose(before.temporary - known, counted)
