"""The exact judge: reads captions, finds what is wrong with them."""

import numpy as np
import pytest

from synpo_jax.world import spoiling, staging, telling, truth
from synpo_jax.world.fluency import fluency
from synpo_jax.world.reading import read_facts
from synpo_jax.world.scene import Facts
from tests.support.hand_scene import SCENE, TOLD

SEEDS = range(60)


@pytest.fixture(scope="module")
def scenes():
  return [staging.sample(seed) for seed in SEEDS]


def worded(scene, facts, rng, broken=0):
  told = telling.sentences(facts, rng)
  return " ".join(spoiling.clumsy(told, rng, broken))


@pytest.mark.parametrize("text", ["", "   \n", "...", "asdf qwer", "12 % 7"])
def test_nothing_is_read_from_nothing(text):
  assert read_facts(text) == Facts()
  judged = truth.judge(text, SCENE)
  assert judged.factuality == 0.0 and judged.fluency == 0.0
  assert truth.consistency([text, TOLD])[0] == 0.0


def test_long_loops_are_judged_in_no_time():
  text = "the red circle moves to the left and " * 2000
  assert truth.judge(text, SCENE).fluency == 0.0


# Scores.


def test_true_captions_get_full_marks(scenes):
  for scene in scenes:
    rng = np.random.default_rng(scene.seed)
    for kind in telling.KINDS:
      caption = telling.tell(scene.facts, rng, kind)
      judged = truth.judge(caption, scene, kind)
      assert (judged.factuality, judged.fluency) == (5.0, 5.0), caption
      assert judged.wrong == 0 and not judged.missing
    caption = telling.tell(scene.facts, rng)
    assert truth.order_accuracy(caption, scene) in (None, 1.0)


def test_every_planted_fault_of_fact_costs_factuality_alone(scenes):
  for scene in scenes:
    rng = np.random.default_rng(scene.seed)
    for fault in spoiling.FACTUAL:
      facts = spoiling.spoil(scene.facts, rng, fault)
      if facts is None:
        continue
      judged = truth.judge(worded(scene, facts, rng), scene)
      assert judged.factuality < 5.0 == judged.fluency, (fault, facts)
      if fault == "invention":
        assert len(judged.invented) == 1
      if fault == "omission":
        assert judged.missing


def test_every_planted_fault_of_language_costs_fluency_alone(scenes):
  for scene in scenes:
    rng = np.random.default_rng(scene.seed)
    for broken in (1, 2, 3):
      judged = truth.judge(worded(scene, scene.facts, rng, broken), scene)
      assert judged.factuality == 5.0, judged
      assert judged.fluency == 5.0 - 1.5 * broken, judged


def test_known_scores_are_what_the_judge_finds(scenes):
  for scene in scenes:
    rng = np.random.default_rng(scene.seed)
    facts, broken = spoiling.flawed(scene.facts, rng, 1 + scene.seed % 3)
    known = truth.grade(facts, scene, broken)
    told = worded(scene, facts, rng, broken)
    judged = truth.judge(told, scene)
    true = telling.tell(scene.facts, rng)
    assert known["factuality"] == judged.factuality
    assert known["fluency"] == judged.fluency
    assert known["consistency"] == truth.consistency([told, true])[0]


def swapped(old: str, new: str) -> truth.Judgement:
  assert old in TOLD
  return truth.judge(TOLD.replace(old, new), SCENE)


def test_scores_by_hand():
  # 3 of setting, 4 + 4 + 3 of things, 2 + 2 + 2 + 2 of events: 22 claims.
  assert truth.judge(TOLD, SCENE).right == 22
  wrong = 5 * 21 / (21 + 4)
  assert swapped("grey", "brown").factuality == pytest.approx(wrong)
  assert swapped("pans to the right", "zooms in").factuality == wrong
  assert swapped("large red", "small red").factuality == wrong
  assert swapped("from the bottom", "from the top").factuality == wrong
  gone = swapped(" Finally, the blue star turns green.", "")
  assert gone.factuality == pytest.approx(5 * 20 / (20 + 2 * 2), abs=1e-3)
  assert gone.missing == ("event 4 kind", "event 4 where")
  dog = swapped("Finally,", "A dog leaves. Finally,")
  assert dog.factuality == pytest.approx(5 * 22 / (22 + 4 * 2), abs=1e-3)
  assert dog.invented == ("dog",)


def test_a_shape_or_colour_mixed_up_is_one_wrong_claim():
  assert swapped("red circle", "red square").wrong == 1
  assert swapped("red circle", "purple circle").wrong == 1
  assert swapped("moves down", "moves up").wrong == 1
  assert swapped("enters", "leaves").wrong >= 1


def test_events_in_another_order_lower_order_and_factuality():
  parts = TOLD.split(" First, ")
  events = [e.split(", ", 1)[-1] for e in parts[1].split(". ")]
  turn, enter, hit, colour = (event.rstrip(".") for event in events)
  text = f"{parts[0]} First, {enter}. Next, {hit}. Next, {turn}. Then {colour}."
  text = text.replace("Then Then", "Then").replace("Next, Then", "Then")
  assert truth.order_accuracy(TOLD, SCENE) == 1.0
  assert truth.order_accuracy(text, SCENE) == pytest.approx(4 / 6)
  assert truth.judge(text, SCENE).factuality < 5.0
  assert truth.order_accuracy("The blue star turns green.", SCENE) == 0.0


def test_repeated_sentences_cost_each_time_but_no_facts():
  again = " Finally, the blue star turns green."
  for times, score in ((0, 5.0), (1, 3.5), (2, 2.0), (4, 0.0)):
    judged = truth.judge(TOLD + again * times, SCENE)
    assert judged.factuality == 5.0 and judged.fluency == score


def test_images_praise_and_brevity_cost():
  assert fluency(TOLD + " This image shows a ring.")[0] == 4.0
  assert fluency(TOLD + " It is a beautiful ring.")[0] == 4.0
  assert fluency("The star turns red.")[0] == 3.5
  assert fluency("The star turns red.", "short")[0] == 5.0


# Agreement.


def test_the_odd_caption_out_is_the_least_consistent():
  other = TOLD.replace("red", "purple").replace("grey stripes", "brown checks")
  scores = truth.consistency([TOLD, TOLD, other, TOLD])
  assert scores[0] == scores[1] == scores[3] > scores[2] > 0
  assert truth.consistency([TOLD, TOLD]) == [3.0, 3.0]
  assert truth.consistency([TOLD]) == [3.0]
