"""Commands with a small Qwen3-VL, whose frames come in timed pairs."""

import dataclasses
import io
import json
import re

import jax
import numpy as np
import pytest
from rich.console import Console

from configs import caption as caption_config
from configs import pairs as pairs_config
from configs import vdc
from synpo_jax import caption, make_pairs, train
from synpo_jax.generation import prompt_batches, rooms, writer
from synpo_jax.models import initial
from synpo_jax.models.captioner import Captioner
from synpo_jax.training import feature_cache, job, metrics
from synpo_jax.weights import folders, loading
from synpo_jax.weights.config_reading import captioner_config
from tests.support import clips, tokenizers_made

pytestmark = pytest.mark.slow

ARCH = dict(
  model_type="qwen3_vl",
  text_config=dict(
    vocab_size=264,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=16,
    rope_scaling=dict(rope_type="default", mrope_section=[4, 2, 2]),
    tie_word_embeddings=True,
  ),
  vision_config=dict(
    depth=2,
    hidden_size=16,
    intermediate_size=24,
    num_heads=2,
    patch_size=8,
    num_position_embeddings=9,
    deepstack_visual_indexes=[0, 1],
    feed_size=32,
  ),
)
# At 2 frames a second of 5 a second: 2, 4 and 5 of 5, 10 and 20.
FRAMES = dict(
  min_frames=2, max_frames=5, frames_per_second=2.0, rounding="nearest"
)
SIZES = {"a": (48, 64), "b": (48, 96), "c": (96, 48)}
PIXELS = dict(resize="auto", resample="bicubic", tokens=24)
# In squares of 16 pixels: of at most 24, 12 and 8 in each of 1, 2 and 3 steps.
GRIDS = [(3, 4), (2, 4), (4, 2)]
MODEL = dict(template="qwen3_vl", dtype="float32", pixels=PIXELS)
PLACING = dict(batch_size=4, prefix_buckets=64, frame_buckets=(6,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A checkpoint with random weights, clips, pairs; one device."""
  path = tmp_path_factory.mktemp("qwen3")
  config = captioner_config(ARCH)
  params = initial.params(Captioner(config), 0)
  stirred = jax.tree.map(lambda x: x * 6 if x.ndim > 1 else x, params)
  folders.save(path / "model", config, stirred)
  tokenizers_made.chatml().save_pretrained(path / "model")
  with (path / "pairs.jsonl").open("w") as rows:
    for name, count in (("a", 5), ("b", 10), ("c", 20)):
      clips.stamped(path / f"{name}.mp4", count, rate=5, size=SIZES[name])
      row = dict(video=f"{name}.mp4", chosen="a red ball", rejected="a box")
      rows.write(json.dumps(row) + "\n")
  only = jax.devices()[:1]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax, "devices", lambda *_: only)
    patch.setattr(jax, "local_devices", lambda **_: only)
    yield path


@pytest.fixture(scope="module")
def run(folder):
  """(what it was made ready with, workdir) of a run of three updates.

  Each is of three videos of three sizes.
  """
  c = vdc.get_config("model=qwen3_vl_2b")
  assert c.data.template == "qwen3_vl" and c.frames.rounding == "nearest"
  c.model.update(checkpoint=str(folder / "model"), arch={}, dtype="float32")
  c.lora.update(rank=2, alpha=2.0, dropout=0.0)
  c.data.update(pairs=str(folder / "pairs.jsonl"), videos=str(folder))
  c.data.update(cache=str(folder / "cache"), min_score_gap=None, workers=0)
  c.data.update(accumulation=1, response_buckets=(16,), frame_buckets=(6,))
  c.frames.update(FRAMES)
  assert c.pixels.resize == "auto"
  c.pixels.update(PIXELS)
  c.data.batch_size = 3
  c.optim.lr, c.epochs, c.log.to = 1e-2, 3, ()
  ready = job.prepare(c, folder / "run")
  train.run(ready, c, folder / "run")
  return ready, folder / "run"


def test_a_run_learns_from_timed_pairs_of_frames(run):
  ready, workdir = run
  rows = metrics.read_rows(workdir / "metrics.jsonl")
  assert len(rows) == 3
  assert all(np.isfinite(row["loss"]) for row in rows)
  held, tokenizer = ready.data.batches.rows, ready.texts.tokenizer
  told = []
  for number in range(3):
    ids = [i for i in held.prefix[number].tolist() if i >= 0]
    told.append(re.findall(r"<([\d.]+) seconds>", tokenizer.decode(ids)))
  assert told == [["0.4"], ["0.3", "1.5"], ["0.5", "2.4", "3.8"]]
  batch = ready.data.batches[0]
  assert batch.frames is None
  found = [ready.data.frames.size(n) for n in range(3)]
  assert found == [(16 * rows, 16 * cols) for rows, cols in GRIDS]
  # Squares of 4 patches end to end, behind the last layer and two others.
  longest = batch.prefix.shape[-1]
  assert batch.features.shape == (1, 3, 1, longest, 3 * 4 * 16)
  own = (
    np.abs(batch.features[0, :, 0].astype(np.float32)).max(axis=-1) > 0
  ).sum(axis=-1)
  for row, count in zip(batch.row[0], own, strict=True):
    steps, (rows, cols) = row + 1, GRIDS[row]
    assert count == (batch.prefix[0, list(batch.row[0]).index(row)] < 0).sum()
    assert count == steps * rows * cols


def test_features_of_other_layers_have_a_cache_of_their_own(run, folder):
  ready, names = run[0], set()
  params = loading.load_params(ready.model, str(folder / "model"), ready.mesh)
  for deep in ((0, 1), (0,), (1,), ()):
    tower = dataclasses.replace(ready.model.config.tower, deep=deep)
    config = dataclasses.replace(ready.model.config, tower=tower)
    model = ready.model.clone(config=config)
    name = feature_cache._setting(model, params["tower"])
    names.add(name)
  assert len(names) == 4


def written(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def asked(monkeypatch):
  """(frames, times) of each prompt from here on, as they are made."""
  seen, make = [], prompt_batches.make

  def spy(form, question, count, times, size=None):
    if times != [rooms.FAR]:  # which measures the longest prompt
      seen.append((count, list(times)))
    return make(form, question, count, times, size)

  monkeypatch.setattr(prompt_batches, "make", spy)
  return seen


def test_captions_are_asked_for_with_the_times(run, folder, asked):
  """The full video and the poorer one, each with the times of its frames."""
  c = caption_config.get_config()
  c.videos, c.root, c.output = "*.mp4", str(folder), str(folder / "out.jsonl")
  c.model.update(MODEL, checkpoint=str(folder / "model"))
  c.model.adapter = str(run[1])
  c.frames.update(FRAMES)
  c.placing.update(PLACING)
  c.captions.update(max_new_tokens=4, contrast_weight=0.5)
  assert not caption.run(c, Console(file=io.StringIO()))
  rows = written(folder / "out.jsonl")
  assert [row["frames"] for row in rows] == [2, 4, 5]
  full, weak = asked[::2], asked[1::2]
  assert [count for count, _ in full] == [2, 4, 6]
  assert full[2][1] == pytest.approx([0.0, 1.0, 2.0, 2.8, 3.8])
  assert weak[2][1] == pytest.approx([0.0, 3.8])


def test_parts_of_videos_have_times_of_their_own(folder, asked):
  c = pairs_config.get_config()
  c.videos, c.root, c.stages = "c.mp4", str(folder), "segments,clips"
  c.model.update(MODEL, checkpoint=str(folder / "model"))
  c.placing.update(PLACING)
  c.clips.update(frames=3, max_new_tokens=3, retrospective=False)
  assert not make_pairs.run(c, folder / "pairs")["unreadable"]
  (row,) = written(folder / "pairs" / "clips.jsonl")
  assert len(row["captions"]) == 2
  (_, first), (count, second) = asked
  assert count == 4  # of 3 that were sampled
  assert first == pytest.approx([0.0, 0.8, 1.8])  # 0, 4, 9 at 5 a second
  assert second == first  # 10, 14, 19


def test_a_template_without_times_is_refused(folder):
  c = caption_config.get_config()
  c.model.update(checkpoint=str(folder / "model"))
  with pytest.raises(ValueError, match="'aurora' does not tell the time"):
    writer.open_writer(c.placing.to_dict(), **c.model.to_dict())
