"""Captions of a mixture of annotators: facts alone tell two of them apart."""

import collections
import subprocess
import sys

import numpy as np
import pytest

from synpo_jax.data import prompts
from synpo_jax.world import (
  annotators,
  comparison,
  folder,
  inventing,
  staging,
  telling,
  truth,
)
from synpo_jax.world import rows as world_rows
from synpo_jax.world.scene import Event, Facts, Thing

SHARES = {"terse": 0.6, "careless": 0.15, "careful": 0.25}


@pytest.fixture(scope="module")
def scenes():
  return [staging.sample(seed) for seed in range(120)]


@pytest.fixture(scope="module")
def written(scenes):
  """Style -> a caption of each clip."""
  return {
    style: [
      annotators.caption(scene, np.random.default_rng([scene.seed, 9]), style)
      for scene in scenes
    ]
    for style in annotators.STYLES
  }


def lengths(captions):
  return np.array([len(text.split()) for text in captions])


@pytest.mark.slow
def test_careful_and_careless_captions_have_one_length(written):
  careful, careless = (
    lengths(written[style]) for style in ("careful", "careless")
  )
  assert abs(careless.mean() / careful.mean() - 1) < 0.05
  assert abs(careless.std() / careful.std() - 1) < 0.20
  sentences = (
    [text.count(".") for text in written[style]]
    for style in ("careful", "careless")
  )
  assert list(next(sentences)) == list(next(sentences))
  assert lengths(written["terse"]).mean() < 0.4 * careful.mean()


def test_they_use_the_same_words(written):
  openings = (
    collections.Counter(text.split(" ")[0] for text in written[style])
    for style in ("careful", "careless")
  )
  careful, careless = openings
  assert careful.keys() == careless.keys()
  for word, times in careful.items():
    assert abs(careless[word] - times) < 25  # of 120


def test_facts_alone_are_at_fault(scenes, written):
  faults = collections.Counter()
  for index, scene in enumerate(scenes):
    told = {style: texts[index] for style, texts in written.items()}
    careful = truth.judge(told["careful"], scene)
    careless = truth.judge(told["careless"], scene)
    terse = truth.judge(told["terse"], scene, "short")
    assert (careful.factuality, careful.fluency) == (5.0, 5.0)
    assert (terse.factuality, terse.fluency) == (5.0, 5.0)
    assert careless.fluency == 5.0
    assert careless.wrong + len(careless.missing) >= annotators.FAULTS[0]
    faults["invented"] += bool(careless.invented)
    faults["happens"] += any(
      "does not happen" in fault for fault in careless.faults
    )
    faults["order"] += "out of order" in careless.faults
    faults["missing"] += bool(careless.missing)
  assert min(faults.values()) > 5 and len(faults) == 4, faults


def test_a_style_comes_as_often_as_its_share_and_not_by_the_clip(scenes):
  def styles(index):
    rows = []
    for scene in scenes:
      rng = np.random.default_rng([scene.seed, index, 1])
      rows.append(world_rows.mixture_row(scene, "a.mp4", rng, SHARES))
      assert set(rows[-1]) == {"video", "question", "chosen", "style"}
      assert rows[-1]["question"] == prompts.TRAINING_QUESTION
    return np.array([row["style"] for row in rows])

  drawn = [styles(index) for index in range(3)]
  for name, share in SHARES.items():
    assert abs(np.mean(np.stack(drawn) == name) - share) < 0.05
  alike = np.mean(drawn[0] == drawn[1])  # by chance: sum of squares
  assert abs(alike - sum(s * s for s in SHARES.values())) < 0.08
  words = np.array([len(telling.tell(s.facts, _rng(0))) for s in scenes])
  terse = drawn[0] == "terse"
  assert abs(words[terse].mean() / words[~terse].mean() - 1) < 0.1


def _rng(seed):
  return np.random.default_rng(seed)


def test_a_style_leaves_the_words_of_another_as_they_were(scenes):
  made = [
    world_rows.mixture_row(
      scenes[0], "a.mp4", _rng([1, 2]), {"careful": 1 - x, "careless": x}
    )
    for x in (0.0, 1e-9)
  ]
  assert made[0] == made[1] and made[0]["style"] == "careful"
  with pytest.raises(ValueError, match="they sum to 0.5, not to 1"):
    annotators.style(_rng(0), {"careful": 0.5})
  with pytest.raises(ValueError, match="no annotators are 'lazy'"):
    annotators.style(_rng(0), {"lazy": 1.0})
  with pytest.raises(ValueError, match="terse=-1.0 must be 0 or more"):
    annotators.style(_rng(0), {"careful": 2.0, "terse": -1.0})


def test_a_folder_of_the_mixture(tmp_path):
  make = dict(clips=3, seed=40, heldout=1)
  folder.write_world(tmp_path / "plain", **make)
  folder.write_world(tmp_path / "mixed", shares=SHARES, **make)
  plain, mixed = (
    (tmp_path / name / "sft.jsonl").read_text() for name in ("plain", "mixed")
  )
  assert plain.count("\n") == mixed.count("\n") == 8
  assert "style" not in plain and mixed.count('"style"') == 8
  flags = f"--out={tmp_path}/wrong --clips=1 --careful=0.7 --terse=0.2"
  done = subprocess.run(
    [sys.executable, "-m", "synpo_jax.world", *flags.split()],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1
  assert done.stderr == "error: shares: they sum to 0.9, not to 1\n"
  assert not (tmp_path / "wrong").exists()


# Events that do not happen.

PAIR = (Thing("circle", "red", "large", "middle"), Thing("star", "blue"))


def drawn(*events):
  facts = Facts("plain", "grey", "static", PAIR, events)
  rngs = map(np.random.default_rng, range(400))
  return {inventing.invent(facts, rng) for rng in rngs}


def test_an_invented_event_is_no_part_of_a_true_one():
  back = drawn(Event("turn", 0, "left"))
  assert Event("move", 0, "right") in back and Event("turn", 0, "up") in back
  assert not {Event("move", 0, "left"), Event("move", 0, "up left")} & back
  entered = drawn(Event("enter", 0, "left"))
  assert Event("move", 0, "right") not in entered
  assert Event("move", 1, "right") in entered
  hit = drawn(Event("collide", 0, None, 1))
  assert Event("collide", 1, None, 0) not in hit
  assert not {e.kind for e in hit if e.who == 0} & {"move", "turn", "hide"}


def test_half_of_them_are_near_misses(scenes):
  near, total = 0, 0
  for scene in scenes[:100]:
    event = inventing.invent(scene.facts, _rng(scene.seed))
    assert event not in scene.facts.events
    facts = scene.facts.events
    near += any((e.kind, e.who) == (event.kind, event.who) for e in facts)
    total += 1
  assert 0.35 < near / total < 0.8
  alone = Facts(
    "plain", "grey", "static", PAIR[:1], (Event("leave", 0, "top"),)
  )
  known = []
  while event := inventing.invent(alone, _rng(len(known)), tuple(known)):
    known.append(event)
  assert len(known) == len(set(known)) > 20
  assert comparison.in_words(alone, known[0])
