"""Every family of video models through the commands, and its plan.

What README.md's table of families says is held against these tests by
tests/docs_test.py: a family is in FAMILIES, or its cell is empty.
"""

import functools
import io
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from configs import caption as caption_recipe
from configs import eval_vatex, vdc
from configs import pairs as pairs_recipe
from synpo_jax import caption, evaluate, make_pairs, train
from synpo_jax.evaluation import meteor
from synpo_jax.generation import writer
from synpo_jax.planning import abstract_step
from synpo_jax.runtime import journal
from synpo_jax.training import job, metrics
from tests.support import clips, families

pytestmark = pytest.mark.slow

FAMILIES = (
  *("auroracap", "llava", "llava_next_video", "llava_onevision"),
  *("llava_video", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"),
)
PLANNED = {  # a size of each
  "auroracap": "auroracap_7b",
  "llava": "llava_1_5_7b",
  "llava_next_video": "llava_next_video_7b",
  "llava_onevision": "llava_onevision_7b",
  "llava_video": "llava_video_7b",
  "qwen2_vl": "qwen2_vl_2b",
  "qwen2_5_vl": "qwen2_5_vl_3b",
  "qwen3_vl": "qwen3_vl_2b",
  "llama": "llama_3_2_1b",
  "mistral": "mistral_7b",
  "qwen2": "qwen2_5_0_5b",
  "gemma2": "gemma_2_2b",
  "gemma3_text": "gemma_3_1b",
}
NEW = 4  # tokens of a caption
FRAMES = 2
TOKENS = 24  # of a video whose size a model follows
OPEN = writer.open_writer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Two clips, and where checkpoints are made; a machine of one device."""
  path = tmp_path_factory.mktemp("families")
  for name, size in (("a", (48, 64)), ("b", (96, 48))):
    clips.stamped(path / f"{name}.mp4", 25, size=size)
  only = jax.devices()[:1]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax, "devices", lambda *_: only)
    patch.setattr(jax, "local_devices", lambda **_: only)
    yield path


@pytest.fixture
def model(folder, request):
  """The `model` section's keys of a family's checkpoint."""
  family = request.param
  if not (folder / family).exists():
    families.write(family, folder / family)
  return dict(
    checkpoint=str(folder / family), template=families.template(family)
  )


@functools.cache
def opened(checkpoint, template, folder):
  """A family's captioner, which writes for three commands."""
  c = caption_recipe.get_config()
  place(c, dict(checkpoint=checkpoint, template=template))
  return OPEN(c.placing.to_dict(), **c.model.to_dict())


@pytest.fixture
def open_writer(model, folder):
  return lambda placing, **given: opened(*model.values(), folder)


def place(c, model):
  c.model.update(model, dtype="float32")
  c.model.pixels.tokens = TOKENS
  c.placing.update(batch_size=2, frame_buckets=(FRAMES,), prefix_buckets=256)


def of_each_family(test):
  return pytest.mark.parametrize("model", FAMILIES, indirect=True)(test)


@of_each_family
def test_a_family_captions(model, open_writer, folder, tmp_path, monkeypatch):
  monkeypatch.setattr(writer, "open_writer", open_writer)
  c = caption_recipe.get_config()
  place(c, model)
  c.videos, c.root = "*.mp4", str(folder)
  c.output = str(tmp_path / "captions.jsonl")
  c.frames.fixed, c.captions.max_new_tokens = FRAMES, NEW
  assert caption.run(c, Console(file=io.StringIO())) == []
  rows = journal.read(tmp_path / "captions.jsonl")
  assert sorted(rows) == ["a.mp4", "b.mp4"]
  assert all(row["caption"] for row in rows.values())


@of_each_family
def test_a_family_writes_candidates(model, open_writer, folder, tmp_path):
  c = pairs_recipe.get_config()
  place(c, model)
  c.stages, c.videos, c.root = "segments,clips,candidates", "*.mp4", str(folder)
  c.candidates.frames.fixed = c.clips.frames = FRAMES
  for section in (c.clips, c.candidates):
    section.update(retrospective=False, max_new_tokens=NEW)
  c.candidates.update(candidates=1, temperature=0.0, top_k=1, top_p=1.0)
  make_pairs.run(c, tmp_path, open_writer)
  rows = journal.read(tmp_path / "candidates.jsonl")
  assert sorted(rows) == ["a.mp4", "b.mp4"]
  assert all(row["captions"][0] for row in rows.values())


@of_each_family
def test_a_family_is_evaluated(
  model, open_writer, folder, tmp_path, monkeypatch
):
  monkeypatch.setattr(meteor, "missing", lambda: "it starts Java")
  c = eval_vatex.get_config()
  place(c, model)
  told = [{"videoID": name, "enCap": ["a ball"]} for name in ("a", "b")]
  (tmp_path / "references.json").write_text(json.dumps(told))
  c.data.references, c.root = str(tmp_path / "references.json"), str(folder)
  c.frames.fixed, c.captions.max_new_tokens = FRAMES, NEW
  results = evaluate.run(c, tmp_path / "run", open_writer)
  assert np.isfinite(results["scores"]["CIDEr-D"])
  assert len(journal.read(tmp_path / "run" / "items.jsonl")) == 2


@of_each_family
def test_a_family_learns(model, folder, tmp_path):
  """Two pairs, two updates of the adapter."""
  rows = [
    dict(video=f"{'ab'[i % 2]}.mp4", chosen="a red ball", rejected=f"no {i}")
    for i in range(2)
  ]
  pairs = tmp_path / "pairs.jsonl"
  pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
  c = vdc.paper("synpo")
  c.epochs = 2
  c.model.update(checkpoint=model["checkpoint"], kept_ratio=None)
  c.model.update(dtype="float32", remat="none")
  c.lora.update(rank=2, alpha=2.0, dropout=0.0)
  c.frames.fixed, c.optim.lr, c.log.to = FRAMES, 1e-2, ()
  c.pixels.tokens = TOKENS
  c.data.update(pairs=str(pairs), videos=str(folder), min_score_gap=None)
  c.data.update(template=model["template"], cache=str(tmp_path / "shards"))
  c.data.update(batch_size=2, accumulation=1, workers=0)
  c.data.update(prefix_buckets=256, response_buckets=(16,))
  c.data.frame_buckets = (FRAMES,)
  with jax.default_matmul_precision("float32"):
    train.run(job.prepare(c, tmp_path / "run"), c, tmp_path / "run")
  logged = metrics.read_rows(tmp_path / "run" / "metrics.jsonl")
  assert len(logged) == 2 and logged[1]["loss"] < logged[0]["loss"]


@pytest.mark.parametrize("name", PLANNED.values(), ids=PLANNED)
def test_a_published_size_is_planned(name):
  """Its update from shapes alone, as `plan` compiles it, gives its state."""
  c = vdc.get_config(f"model={name}")
  step = abstract_step.build(c, jax.devices()[:1])
  key = jax.eval_shape(lambda: jax.random.key(0))
  given = step.state, step.frozen, step.batch, key
  state, _ = jax.eval_shape(step.function, *given)
  same = jax.tree.map(lambda a, b: a.shape == b.shape, state, step.state)
  assert all(jax.tree.leaves(same))
  assert (step.shape.frames > 0) == (step.model.config.tower is not None)
