"""Scores of captions: by hand, at their floors, and question by question."""

import dataclasses
import re

import numpy as np
import pytest

from synpo_jax.world import (
  annotators,
  marks,
  quiz,
  scores,
  spoiling,
  staging,
  telling,
  truth,
)
from synpo_jax.world.reading import read_facts
from tests.support.hand_scene import FACTS, SCENE, TOLD
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "scores.md").read_text("utf-8")


@pytest.fixture(scope="module")
def scenes():
  drawn = [staging.sample(seed) for seed in range(5000, 5040)]
  return {scene.video: scene for scene in drawn}


def told(scenes, kind="detailed"):
  return {
    name: telling.tell(scene.facts, np.random.default_rng(scene.seed), kind)
    for name, scene in scenes.items()
  }


def mean(captions, scenes):
  return scores.summary(scores.rows(captions, scenes))


# The example of docs/scores.md.


def test_the_worked_example_of_the_page():
  quoted = " ".join(re.findall(r"^> (.*)$", PAGE, re.MULTILINE))
  found = scores.score(quoted, SCENE)
  assert found == {
    "precision": pytest.approx(10 / 13),
    "recall": 10 / 25,
    "f1": pytest.approx(2 * 10 / (13 + 25)),
    "hallucination": pytest.approx(3 / 13),
    "omissions": 12 / 25,
    "qa_accuracy": 9 / 24,
    "words": 40.0,
    "fluency": 5.0,
  }
  for key in ("precision", "recall", "hallucination", "omissions"):
    assert f"{found[key]:.3f}" in PAGE
  assert f"F1 {found['f1']:.3f}" in PAGE
  assert f"answered rightly, {found['qa_accuracy']:.3f}" in " ".join(
    PAGE.split()
  )
  assert set(scores.KEYS) == found.keys()
  assert set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE)) == found.keys()


def test_claims_of_what_is_not_there_are_wrong_each():
  # circle, red and an event rightly, its size not; a dog, and what it does.
  found = marks.of_caption(
    "A small red circle turns around. A dog appears.", FACTS
  )
  made = [(m.kind, m.verdict) for m in found if m.verdict != marks.MISSING]
  assert made == [
    ("shape", "right"),
    ("colour", "right"),
    ("size", "wrong"),
    ("event", "right"),
    ("shape", "wrong"),
    ("event", "wrong"),
  ]
  assert sum(m.needed for m in found) == 25
  left = marks.left_out(found)
  assert left[:3] == [
    "a wall with grey stripes",
    "the camera pans to the right",
    "the circle is at the top left",
  ]
  assert "a small blue star" in left and "the star is small" not in left


def test_order_is_claimed_by_who_tells_both_rightly():
  start, story = TOLD.split(" First, ")
  turn, enter, *rest = story.split(". ")
  swapped = f"{start} {enter}. Then {turn}. {'. '.join(rest)}"
  found = {m.key: m.verdict for m in marks.of_caption(swapped, FACTS)}
  orders = [found["order", index] for index in range(3)]
  assert orders == ["wrong", "right", "right"]
  found = marks.of_caption(TOLD.replace("turns green", "moves up"), FACTS)
  assert [m.verdict for m in found if m.kind == "order"][2] == "left out"


def test_words_bear_the_verdict_of_their_claims():
  text = "The camera zooms in. A large green circle moves down. A dog leaves."
  coloured = marks.coloured(text, FACTS)
  assert "".join(word for word, _ in coloured) == text
  found = {re.sub(r"\W", "", word): verdict for word, verdict in coloured}
  assert found["zooms"] == found["green"] == found["dog"] == "wrong"
  assert found["large"] == found["circle"] == found["down"] == "right"
  assert found["The"] is None and found["A"] is None
  assert marks.coloured("", FACTS) == []


# Floors.


def test_truth_against_truth_is_perfect(scenes):
  for key, value in mean(told(scenes), scenes).items():
    if key.removesuffix("_se") in ("qa_accuracy", "f1", "precision", "recall"):
      assert value == (0.0 if key.endswith("_se") else 1.0), key
    if key.startswith(("hallucination", "omissions")):
      assert value == 0.0, key


BANDS = {"qa_accuracy": (0.10, 0.27), "f1": (0.10, 0.26)}
BANDS |= {"precision": (0.11, 0.28), "hallucination": (0.72, 0.89)}


def test_another_clips_caption_is_at_the_floor(scenes):
  true = told(scenes)
  others = dict(
    zip(true, [*true.values()][1:] + [*true.values()][:1], strict=True)
  )
  found = mean(others, scenes)
  one = mean(dict.fromkeys(true, TOLD), scenes)
  for key, (low, high) in BANDS.items():
    assert low < found[key] < high, (key, found[key])
    assert low - 0.05 < one[key] < high + 0.05, (key, one[key])
  nothing = mean(dict.fromkeys(true, ""), scenes)
  assert nothing["omissions"] == 1.0
  assert all(nothing[key] == 0 for key in scores.KEYS if key != "omissions")


def test_little_that_is_true_scores_little(scenes):
  background = mean(told(scenes, "background"), scenes)
  assert background["qa_accuracy"] < 0.15 and background["precision"] == 1.0
  assert mean(told(scenes, "camera"), scenes)["qa_accuracy"] < 0.1
  still = mean(dict.fromkeys(scenes, "The camera stays still."), scenes)
  assert still["qa_accuracy"] < 0.05 and still["f1"] < 0.1
  terse = mean(told(scenes, "short"), scenes)
  assert terse["qa_accuracy"] < 0.7 and terse["f1"] < 0.8
  assert terse["hallucination"] == 0.0
  careless = {
    name: annotators.caption(scene, np.random.default_rng(1), "careless")
    for name, scene in scenes.items()
  }
  assert 0.25 < mean(careless, scenes)["hallucination"] < 0.55


def test_shares_by_kind_sum_to_one(scenes):
  found = scores.by_kind(told(scenes, "short"), scenes)
  assert set(found) == set(marks.KINDS)
  for shares in found.values():
    total = shares["right"] + shares["wrong"] + shares["left out"]
    assert total == pytest.approx(1) and shares["claims"] >= 3
  assert found["background"]["right"] == 1.0 == found["camera"]["left out"]
  assert 0 < found["event"]["right"] < 1


# Means and their errors.


def test_errors_by_hand():
  rows = {
    name: dict.fromkeys(scores.KEYS, value)
    for name, value in {"a": 0.2, "b": 0.4, "c": 0.9}.items()
  }
  after = {
    name: dict.fromkeys(scores.KEYS, 0.1 + row["f1"])
    for name, row in rows.items()
  }
  found = scores.summary(rows)
  assert found["f1"] == pytest.approx(0.5)
  # deviations -.3, -.1, .4: sqrt(.26 / 2) / sqrt(3)
  assert found["f1_se"] == pytest.approx((0.13 / 3) ** 0.5)
  change = scores.differences(rows, after)
  assert change["f1"] == pytest.approx(0.1)
  assert change["f1_se"] == pytest.approx(0, abs=1e-9)
  assert scores.summary({"a": rows["a"]})["f1_se"] is None
  with pytest.raises(ValueError, match="c: a clip of only one"):
    scores.differences(rows, {"a": after["a"], "b": after["b"]})
  with pytest.raises(ValueError, match="no caption to score"):
    scores.summary({})
  with pytest.raises(ValueError, match="no scene of that clip"):
    scores.rows({"clips/x.mp4": ""}, {"hand": SCENE})
  assert scores.rows({"clips/hand.mp4": ""}, {"hand": SCENE})


# Questions.

GOLD = {
  ("camera", "How does the camera move?"): "it pans to the right",
  ("background", "What is the background?"): "stripes",
  ("background", "What tone does the background have?"): "grey",
  ("short", "What is the clip mainly about?"): "star",
  ("main_object", "Where is the star at the start?"): "middle right",
  ("detailed", "How many objects appear?"): "3",
  ("detailed", "How large is the ring?"): "small",
  ("events", "Does it happen that the star turns green?"): "yes",
}


def test_questions_have_the_answers_that_a_person_gives():
  asked = {(q.category, q.text): q for q in quiz.questions(SCENE)}
  assert {q.category for q in asked.values()} == set(quiz.CATEGORIES)
  for key, gold in GOLD.items():
    assert asked[key].answer == gold, key
    assert truth.answer(asked[key], TOLD) == gold
  which = [q for q in asked.values() if q.text.startswith("Which comes first")]
  assert len(which) == 3
  assert which[0].answer == "the circle moves down and turns back"
  turned = dataclasses.replace(FACTS, events=FACTS.events[1::-1])
  text = telling.tell(turned, np.random.default_rng(0))
  assert truth.answer(which[0], text) == "the ring enters from the bottom"


def test_each_fact_is_asked_once_and_as_much_of_what_does_not_happen(scenes):
  for scene in scenes.values():
    asked = quiz.questions(scene)
    assert asked == quiz.questions(scene)
    assert len({q.probe for q in asked}) == len(asked)
    assert {q.category for q in asked} == set(quiz.CATEGORIES)
    held = [q.answer for q in asked if q.probe[0] == "happens that"]
    assert held.count("yes") == held.count("no") == len(held) / 2
    facts = 3 + 2 + len(set(scene.facts.events)) * 2
    facts += sum(2 + (t.zone is not None) for t in scene.facts.things)
    assert facts <= len(asked) < facts + len(scene.facts.events)


def test_answers_come_from_the_caption_alone():
  asked = {q.text: q for q in quiz.questions(SCENE)}
  wrong = TOLD.replace("pans to the right", "zooms out")
  camera = asked["How does the camera move?"]
  assert truth.answer(camera, wrong) == "it zooms out"
  found = scores.categories(wrong, SCENE)
  assert found.pop("camera") == 0.0 and set(found.values()) == {1.0}
  brief = "The camera pans to the right."
  assert truth.answer(asked["How many objects appear?"], brief) is None
  found = scores.categories(brief, SCENE)
  assert found["detailed"] == found["events"] == found["invented"] == 0.0


def test_who_tells_an_invented_event_answers_wrongly(scenes):
  for scene in scenes.values():
    for question in quiz.questions(scene):
      if question.category == "invented":
        words = question.text.removeprefix("Does it happen that ")
        lie = words[0].upper() + words[1:].replace("?", ".")
        assert truth.answer(question, lie) == "yes", lie


def test_faulty_captions_answer_fewer_questions(scenes):
  for scene in scenes.values():
    rng = np.random.default_rng(scene.seed)
    facts, _ = spoiling.flawed(scene.facts, rng, 3)
    if dataclasses.replace(facts, still=scene.facts.still) == scene.facts:
      continue
    text = telling.tell(facts, rng)
    if read_facts(text) != scene.facts:
      found = scores.score(text, scene)
      assert found["qa_accuracy"] < 1.0 and found["f1"] < 1.0, text
