"""What the stages of the warm start are made of."""

import collections

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import warm_start
from synpo_jax.data import prompts
from synpo_jax.runtime import journal_rows
from synpo_jax.study import exam, warming
from synpo_jax.world import scene as graphs
from synpo_jax.world import staging, telling


@pytest.fixture(scope="module")
def scenes():
  return [staging.sample(seed) for seed in range(120)]


@pytest.fixture
def workdir(tmp_path, scenes):
  (tmp_path / "world").mkdir()
  graphs.write_scenes(str(tmp_path / "world" / "scenes.jsonl"), scenes)
  return tmp_path


def test_kernels_start_wide_and_what_adds_to_the_stream_starts_small():
  normal = jax.random.normal(jax.random.key(0), (400, 100)) * 0.02
  params = {
    "decoder": {"attn": {"q": {"kernel": normal}, "o": {"kernel": normal}}},
    "tower": {"patch": {"kernel": normal}},
    "projector": {"fc0": {"kernel": normal, "bias": jnp.ones(3)}},
  }
  wide = warming.widened(params)
  attn = wide["decoder"]["attn"]
  assert abs(float(attn["q"]["kernel"].std()) / 400**-0.5 - 1) < 0.02
  assert abs(float(attn["o"]["kernel"].std()) / 400**-0.5 - 0.3) < 0.01
  assert (wide["tower"]["patch"]["kernel"] == normal).all()
  assert (wide["projector"]["fc0"]["bias"] == 1).all()


@pytest.mark.slow
def test_the_mixture_holds_a_row_of_each_clip_and_other_requests(workdir):
  c = warm_start.get_config()
  rows = warming.mixture_rows(c, workdir)
  mixed = [row for row in rows if "style" in row]
  assert len({row["video"] for row in mixed}) == len(mixed) == 120
  assert {row["question"] for row in mixed} == {prompts.TRAINING_QUESTION}
  counts = collections.Counter(row["style"] for row in mixed)
  assert counts["careless"] > counts["careful"] > counts["terse"] > 0
  others = [row["question"] for row in rows if "style" not in row]
  assert others
  begun = [q for q in others if q.startswith(prompts.TRAINING_QUESTION)]
  assert not begun  # they would say how careful answers look
  c.mixing.clips = 7
  assert len({row["video"] for row in warming.mixture_rows(c, workdir)}) == 7


def test_marks_are_kept_and_gates_say_what_is_missed(
  tmp_path, scenes, monkeypatch
):
  """Two clips: one told truly, one not at all."""
  one, other = scenes[:2]
  told = {
    f"clips/{one.video}.mp4": telling.tell(one.facts, np.random.default_rng(0)),
    f"clips/{other.video}.mp4": "",
  }
  known = {scene.video: scene for scene in (one, other)}
  monkeypatch.setattr(exam, "_clips", lambda folder, **asked: known)
  monkeypatch.setattr(exam, "_captions", lambda *given: told)
  c = ml_collections.ConfigDict()
  c.exam, c.gates = dict(clips=2, seed=0), dict(shape=0.5, f1=0.6)
  found = exam.sit(c, None, tmp_path, tmp_path)
  things = [len(scene.facts.things) for scene in (one, other)]
  assert found["kinds"]["shape"]["right"] == things[0] / sum(things)
  assert found["gates"]["f1"] == {"wanted": 0.6, "got": 0.5}
  shown = exam.table(found)
  missed = list(shown.columns[-1].cells)
  assert missed[1] == "missed" and (missed[0] == "missed") == (
    things[0] < things[1]
  )
  told.clear()  # not written again
  assert exam.sit(c, None, tmp_path, tmp_path) == found
  kept = journal_rows.whole_rows(tmp_path / "captions.jsonl")
  assert len(list(kept)) == 2
