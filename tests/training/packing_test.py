"""Pairs that share rows teach what they teach in rows of their own.

Measured float32 noise of gradients: 2e-6 of the largest entry. Where rejected
captions see the chosen ones it is 0.4, where positions go on from pair to pair,
or pairs see the first prompt, above 1.
"""

import jax
import numpy as np
import pytest

from configs import vdc
from synpo_jax.data import batches, packing, padding, token_rows
from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.models import initial
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import LoraConfig
from synpo_jax.training import gradients, heldout, job, loop, metrics, update
from synpo_jax.training import packing as shared_rows
from synpo_jax.training.pair_logps import Scoring
from synpo_jax.weights.config_reading import captioner_config
from tests.support import families, run_config

SIDE, LENGTH = 16, 160
SMALL = dict(hidden_size=16, intermediate_size=16, num_attention_heads=2)
TOWER = dict(SMALL, num_hidden_layers=2, image_size=SIDE)


def architecture(family):
  """A family's config, of one layer."""
  llm = SMALL | dict(num_hidden_layers=1, num_key_value_heads=1)
  if family == "text":
    return families.LLAMA | llm
  arch = dict(families.ARCHITECTURES[family])
  for name, own in (("llm", llm), ("text_config", llm)):
    if name in arch:
      arch[name] = arch[name] | own
  for name in ("visual_encoder", "vision_config"):
    if name in arch:
      arch[name] = arch[name] | TOWER
  return arch


def make_rows(config, rng):
  """Seven pairs behind prompts of 1 to 3 frames; two of text alone."""
  prompts, frames = [], [1, 3, 0, 2, 3, 0, 1]
  for count in frames if config.tower else [0] * 7:
    blocks = config.blocks(count) if count else []
    words = rng.integers(1, 99, rng.integers(4, 20)).tolist()
    shown = [x for size in blocks for x in [7] + [IMAGE_TOKEN] * size]
    prompts.append(words[:2] + shown + words[2:])
  told = [rng.integers(1, 99, rng.integers(2, 16)).tolist() for _ in range(14)]
  video = np.where(np.array(frames) > 0, np.arange(7), -1)
  video = video if config.tower else np.full(7, -1)
  return token_rows.Rows(
    token_rows.ragged(prompts),
    token_rows.ragged(told),
    pair=np.arange(7),
    video=video,
    frames=np.where(video >= 0, frames, 0),
    captions=2,
  )


@pytest.fixture(scope="module", params=["text", "auroracap", "llava_onevision"])
def case(request):
  """Model, its trees and the batches of an epoch, unpacked and packed."""
  config = captioner_config(architecture(request.param))
  model, rng = (
    Captioner(config, LoraConfig(2, 2.0, 0.0)),
    np.random.default_rng(1),
  )
  variables = {
    "params": jax.tree.map(lambda x: 4 * x, initial.params(model, 0)),
    "lora": jax.tree.map(lambda x: x + 0.3, initial.adapter(model, 1)),
  }
  rows = make_rows(config, rng)

  def frames(number):
    return np.random.default_rng(number).integers(
      0, 256, (int(rows.frames[number]), SIDE, SIDE, 3), np.uint8
    )

  own = dict(visual_key="frames", epochs=2, seed=3, process_index=0)
  own |= dict(process_count=1, batch_size=4, accumulation=1)
  sizes = padding.bucket_sizes(rows, 128, (16,), (3,))
  size = dict(batch_size=2, accumulation=2, shards=1, seed=0, ids="abcdefg")
  packs = packing.make(rows, LENGTH, **size)
  plain = batches.Batches(rows, sizes, frames, **own)
  packed = batches.Batches(rows, sizes, frames, **own, packing=packs)
  return model, update.split(variables, "lora/.*"), plain, packed


def scorer(model, name="synpo"):
  """Jitted: an update's sums and gradients."""
  goal = update.make_objective(
    model,
    Scoring("shared", 8, None, None),
    name=name,
    coefficients=vdc.LOSSES[name],
  )

  @jax.jit
  def score(trees, batch):
    return gradients.value_and_grad(goal, *trees, batch, None)

  return score


def added(found):
  return jax.tree.map(lambda *leaves: np.sum(leaves, axis=0), *found)


def test_sums_and_gradients_are_those_of_rows_of_their_own(case):
  """Update by update, whose numbers of pairs differ."""
  model, trees, plain, packed = case
  score, counts, compiled = scorer(model), [], 0
  for index in range(packed.per_epoch):
    batch = packed[index]
    mine = batch.row[batch.weight > 0]
    counts.append(len(mine))
    assert (batch.row[batch.weight == 0] == -1).all()
    ours, grads = score(trees, batch)
    compiled = score._cache_size() if not index else compiled
    assert score._cache_size() == compiled  # all updates are one program
    once = plain.once(mine)
    wanted = added([score(trees, once[i]) for i in range(len(once))])
    compiled = score._cache_size()
    assert float(ours["pairs"]) == len(mine)
    for name, value in wanted[0].items():
      np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-5)
    most = max(np.abs(x).max() for x in jax.tree.leaves(wanted[1]))
    for leaf, its in zip(
      *map(jax.tree.leaves, (grads, wanted[1])), strict=True
    ):
      np.testing.assert_allclose(leaf, its, rtol=0, atol=1e-5 * most)
  assert sum(counts) == 7 and len(set(counts)) > 1


def test_what_cannot_share_rows_is_named():
  c = vdc.get_config()
  c.data.packing = 4096
  config = captioner_config(architecture("text"))
  shared_rows.check(c, config)
  qwen = captioner_config(families.ARCHITECTURES["qwen2_vl"])
  for section, key, value, told in (
    (c.data, "packing", -1, "-1: give a number"),
    (c.step, "layout_name", "two_sequence", "two_sequence does not; set it to"),
    (c, "micro_batch", "most", "set micro_batch=given"),
  ):
    before, section[key] = section[key], value
    with pytest.raises(ValueError, match=told):
      shared_rows.check(c, config)
    section[key] = before
  with pytest.raises(ValueError, match=r"M-RoPE .* set data.packing=0"):
    shared_rows.check(c, qwen)


@pytest.mark.slow
def test_a_run_of_rows_that_pairs_share_learns_the_same(tmp_path, capsys):
  """Each epoch one update on a mesh; references are read from their cache."""
  runs = {}
  for length in (0, 1024):
    c = run_config.get_config(f"{tmp_path},dpo")
    c.mesh.update(data=2, fsdp=4, model=1)
    c.lora.dropout, c.cache.references = 0.0, True
    c.data.update(batch_size=8, accumulation=4, packing=length, workers=0)
    c.heldout.update(captions=0, scenes="")
    c.every.reward_norms = 1
    workdir = tmp_path / f"run{length}"
    ready = job.prepare(c, workdir)
    outcome = loop.train(ready, c, workdir)
    adapter = jax.tree.leaves(jax.device_get(outcome.state.trained))
    held = heldout.of_pairs(ready, c, outcome.state.trained)
    runs[length] = metrics.read_rows(workdir / "metrics.jsonl"), adapter, held
  told = capsys.readouterr().out
  assert "in one; an update is " in told and "32 are asked for" in told
  (plain, ours, held), (packed, theirs, its) = runs.values()
  assert len(plain) == len(packed) == 2 and plain[0]["pairs"] > 8
  same = ("pairs", "tokens", "loss", "accuracy", "margin", "grad_norm")
  same += ("chosen_reward_grad_norm", "rejected_reward_grad_norm")
  for mine, wanted in zip(packed, plain, strict=True):
    for name in same:
      assert mine[name] == pytest.approx(wanted[name], rel=1e-4, abs=1e-6), name
  for mine, wanted in zip(theirs, ours, strict=True):
    np.testing.assert_allclose(mine, wanted, atol=1e-4)
  assert its == pytest.approx(held, rel=1e-4, abs=1e-5)
