"""Plans of rows that several pairs share."""

from types import SimpleNamespace
from unittest import mock

import jax
import numpy as np
import pytest

from synpo_jax.models import attention_splash
from synpo_jax.planning import (
  abstract_step,
  chips,
  choices,
  kernels,
  outcome,
  tables,
  targets,
)
from synpo_jax.planning.trial import Trial
from tests.support import run_config


@pytest.fixture
def c(tmp_path):
  made = run_config.get_config(tmp_path)
  made.mesh.update(data=2, fsdp=1, model=1)
  made.data.update(packing=2048, batch_size=16, accumulation=2)
  return made


def test_an_update_of_rows_is_planned(c):
  step = abstract_step.build(c, jax.devices()[:2], 8, 64)
  steps, rows, length = step.batch.packed.tokens.shape
  places = 2048 // (step.shape.prefix + 2 * step.shape.response)
  assert places > 2 and length == 2048 and rows % 2 == 0
  assert step.batch.weight.shape == (steps, rows * places)
  assert outcome.tokens(step) == rows * length
  choice = choices.Choice(2, 1, 1, 16, 2, "full")
  trial = Trial(choice, step, SimpleNamespace(pairs=32))
  target = targets.Target(chips.parse("v5e:1x2"), [], "")
  _, update, *_ = tables.heading(c, target, trial)
  used = places * (step.shape.prefix + 2 * step.shape.response)
  assert f"{steps} x {rows} rows of 2048, {rows // 2} a device" in update
  assert f"{places} such pairs in each, {used / 2048:.0%} full" in update
  assert 0.7 * 32 <= np.prod(step.batch.weight.shape) <= 1.3 * 32
  key = jax.eval_shape(lambda: jax.random.key(0))
  given = step.state, step.frozen, step.batch, key
  state, _ = jax.eval_shape(step.function, *given)
  same = jax.tree.map(lambda a, b: a.shape == b.shape, state, step.state)
  assert all(jax.tree.leaves(same))


def test_a_row_that_holds_no_pair_is_named(c):
  c.data.packing = 200
  told = "data.packing=200: a pair of .* does not fit; raise it"
  with pytest.raises(ValueError, match=told):
    abstract_step.build(c, jax.devices()[:2], 8, 64)


def test_blocks_between_pairs_cost_nothing():
  """Two pairs, each as long as a block, in a row of three."""
  shape = abstract_step.Shape(256, 128, 0)
  packed = SimpleNamespace(tokens=np.zeros((1, 1, 1536)))
  packed.begins = np.zeros((1, 1, 2, 2))
  step = SimpleNamespace(batch=SimpleNamespace(packed=packed), shape=shape)
  step.model = SimpleNamespace(attention=SimpleNamespace(name="splash"))
  own, padding = 2 * 512**2, 512**2  # which sees the first prompt, as computed
  assert kernels._block_pairs(step) == (own + padding,) * 2
  step.model.attention.name = "xla"
  assert kernels._block_pairs(step) == (1536**2,) * 2


def test_blocks_that_are_seen_cost_what_their_kernel_s_side_says(monkeypatch):
  """A row [1024 | 256 | 256]: 6 of 9 blocks of 512 are seen, 10 of 16 of 384.

  Two rows of 3 heads of 8 on one device.
  """
  tiles = attention_splash.Tiling(512, 384, 1536)
  monkeypatch.setattr(attention_splash, "tiling", lambda *rule: tiles)
  batch = SimpleNamespace(packed=None, response=np.zeros((1, 2, 2, 256)))
  decoder = SimpleNamespace(heads=3, head_dim=8)
  model = SimpleNamespace(attention=SimpleNamespace(name="splash", kind=""))
  model.config = SimpleNamespace(decoder=decoder)
  mesh = SimpleNamespace(shape=dict(data=1, fsdp=1, model=1))
  shape = abstract_step.Shape(1024, 256, 0)
  step = mock.Mock(spec=abstract_step.Step)
  step.batch, step.model, step.mesh, step.shape = batch, model, mesh, shape
  step.layout = "shared"
  runs = {"splash_mha_fwd_segmented": 1.0, "splash_mha_dqkv_segmented": 1.0}
  products = 2 * 6 * 512**2 + 5 * 10 * 384**2
  assert kernels.flops(step, runs) == 2 * products * 2 * 3 * 8


def test_calls_of_cudnn_cost_what_their_masks_say():
  """Two layers: without masks a triangle, with them captions; or whole rows."""
  step = mock.Mock(spec=abstract_step.Step)
  model = SimpleNamespace(attention=SimpleNamespace(name="cudnn"))
  decoder = SimpleNamespace(heads=3, head_dim=8)
  model.config = SimpleNamespace(decoder=decoder)
  step.model, step.layout = model, "shared"
  step.mesh = SimpleNamespace(shape=dict(data=1, fsdp=1, model=1))
  step.batch = SimpleNamespace(packed=None, response=np.zeros((1, 2, 2, 128)))
  step.shape = abstract_step.Shape(128, 128, 0)
  plain, masked = "__cudnn$fmhaSoftmax", "__cudnn$fmhaScaleBiasSoftmax"
  runs = {n + way: 2.0 for n in (plain, masked) for way in ("", "Backward")}
  pairs = 3 * 128**2 + 128 * 256
  one = 2 * 2 * 3 * 8  # FLOPs of a pair in two rows
  assert kernels.flops(step, runs) == 2 * 7 * pairs * one
  whole = {masked: 2.0, masked + "Backward": 2.0}
  assert kernels.flops(step, whole) == 2 * 7 * 384**2 * one
