"""What is planned, and refused, where sizes of frames follow the video."""

import itertools
import json
import re

import jax
import pytest

from configs import vdc
from synpo_jax import decode
from synpo_jax.data import shards
from synpo_jax.models import sharding
from synpo_jax.planning import abstract_step, disk, inputs
from synpo_jax.training import job
from synpo_jax.weights import config_reading
from tests.support import families

TOKENS = 24
WIDTH = 2 * 4 * 32  # of features: four patches of the last layer, of one more


@pytest.fixture
def c(tmp_path):
  """A run of a small Qwen3-VL on at most four pairs of frames a video."""
  c = vdc.get_config("model=qwen3_vl_2b")
  c.model.update(checkpoint="", arch=families.ARCHITECTURES["qwen3_vl"])
  c.lora.rank, c.pixels.tokens = 2, TOKENS
  c.data.pairs, c.heldout.pairs = str(tmp_path / "pairs.jsonl"), ""
  row = dict(question="Q", chosen="a", rejected="b", chosen_score=9)
  (tmp_path / "pairs.jsonl").write_text(
    json.dumps(row | dict(rejected_score=1))
  )
  c.frames.update(min_frames=2, max_frames=8)
  c.data.update(prefix_buckets=1, response_buckets=(16,), frame_buckets=(8,))
  return c


def test_the_largest_size_is_planned(c):
  """No prompt takes more than is planned, and one takes all of it."""
  planned = abstract_step.build(c, jax.devices()[:1])
  rule, prefix = planned.model.config.follow, planned.shape.prefix
  rows = c.data.accumulation, c.data.batch_size
  assert planned.batch.features.shape == (*rows, 1, prefix, WIDTH)
  held = abstract_step.STAMP_TOKENS, abstract_step.TEXT_TOKENS
  taken = []
  for frames, shape in itertools.product((2, 4, 6, 8), ((40, 60), (90, 30))):
    blocks = planned.model.config.blocks(frames, rule(frames, *shape))
    taken.append(sum(map(len, blocks)))
    assert taken[-1] + held[0] * len(blocks) + held[1] <= prefix
  assert max(taken) == TOKENS
  assert prefix == TOKENS + held[0] * 4 + held[1]


def test_room_on_the_disk_is_for_the_largest_size(c):
  """Four pairs of frames of 2 x 3 squares of 8 pixels, in each of two."""
  c.world.clips = 2
  needed = disk.estimate(c, "run", [])[str(c.data.cache)]
  assert needed == dict(
    frames=2 * 8 * (16 * 24) * 3, features=2 * TOKENS * WIDTH * 2
  )


def decoded(c):
  """What the command that decodes alone makes of a row of text."""
  sizes = config_reading.captioner_config(c.model.arch.to_dict())
  return decode.decode(c, *decode.wanted(c), sizes, shards.build)


@pytest.mark.parametrize(
  "section, changes, said",
  [
    ("cache", dict(features=False), "cache.features=False, and frames whose"),
    ("lora", dict(where=("decoder", "tower")), "lora.where has the tower"),
    (
      "lora",
      dict(where=("tower",), tower_layers=1),
      "lora.where has the tower",
    ),
  ],
)
def test_what_several_sizes_rule_out_is_refused(c, section, changes, said):
  """And is not where frames have one size."""
  mesh = sharding.make_mesh(data=1, fsdp=1, model=1, devices=jax.devices()[:1])
  c[section].update(changes)
  with pytest.raises(ValueError, match=said) as found:
    job.make_model(c, mesh)
  told = str(found.value)
  assert "\n" not in told and "pixels.resize=squash (or crop)" in told
  for asked in (inputs.check_checkpoint, decoded):
    with pytest.raises(ValueError, match=re.escape(told)):
      asked(c)
  c.pixels.resize = "squash"
  assert job.make_model(c, mesh).config.follow is None
  inputs.check_checkpoint(c)
  assert decoded(c) is None


def test_adapters_behind_the_tower_are_not_refused(c):
  mesh = sharding.make_mesh(data=1, fsdp=1, model=1, devices=jax.devices()[:1])
  c.lora.where = ("decoder", "projector")
  assert job.make_model(c, mesh).config.follow.tokens == TOKENS
