"""One reader of judges' replies: said once it is read, else asked again."""

import itertools
import json
import random
import time

import pytest

from synpo_jax.endpoints import thoughts
from synpo_jax.evaluation import verdicts
from synpo_jax.judging import reading
from synpo_jax.judging.replies import Unreadable
from synpo_jax.pairing import criteria
from tests.support.thought_forms import MARKED

# All of these say 4, of 0 to 5.
FOUR = [
  '{"score": 4}',
  "{'Score': '4'}",
  '{"score": "4/5"}',
  '{"score": "4 out of 5"}',
  '{"score": 4.0, "max": 5}',
  '{"score": 4} and once more {"reason": "I said so", "score": 4}',
  '{"reason": "A score: 2 would be harsh", "score": 4}',
  'Three of 7 things are there. {"score": 4}',
  '{"score": 4}\nThe first 2 notes say so.',
  "score: 4",
  "Score: 4.",
  "**Score:** 4",
  "**Score**: 4/5",
  "score = 4",
  "The score is 4.",
  "Score: 4 out of 5",
  '"score": 4',
  "<score>4</score>",
  "The caption is not bad. Score: 4",
  "score: 4\nfinal score: 4",
]
# None of these says one score of 0 to 5.
NONE = [
  "Score: 3/10",
  "score: 4/100",
  "score: 4 out of 10",
  "score: 40%",
  "score: 4%",
  "score: 3-4",
  "score: 3–4",
  "score: 3 to 4",
  "score: 3 or 4",
  "score: 4 (or 3)",
  "score: -1",
  "score: - 1",
  "score: 4,5",
  "score: 4.5.1",
  "score: 4+",
  "score: ~4",
  "score: about 4",
  "score: 4±1",
  "score: four",
  "I cannot give a score: 0 reasons",
  "I cannot give a score: 0",
  "I'm sorry, I can't. score: 0",
  "score: 3. No wait, score: 5",
  "score: 3. No wait, 5",
  "3. No wait, score: 5",
  "score: 3, actually 5",
  "score: 1 would be harsh.\nscore: 4",
  "If it were right, score: 5.",
  "It could be score: 5",
  "This is not score: 5",
  "score: 4\nconfidence: 90",
  "4",
  "score:",
  "score: null",
  '{"score": "3/10"}',
  '{"score": "4/100"}',
  '{"score": "3-4"}',
  '{"score": "about 4"}',
  '{"score": -1}',
  '{"score": "-1"}',
  '{"score": [4]}',
  '{"score": null}',
  '{"score": true}',
  '{"score": 4, "max": 10}',
  '{"score": 4, "scale": "0-10"}',
  '{"score": 4, "Score": 2}',
  '{"score": 4} {"score": 2}',
  'score: 2\n{"score": 4}',
  '{"score": 4}\nscore: 2',
  '{"score": 4} No wait, it should be 2.',
  '{"score": 4}\nActually 2.',
  '{"score": 1, "score": 2} So: {"score": 4}',
  '{"score": 4',
  '{"rating": 4}',
]


@pytest.mark.parametrize("reply", FOUR)
def test_a_score_said_once_is_read(reply):
  assert verdicts.score(reply) == 4
  assert criteria.read_score(reply, "factuality") == 4


@pytest.mark.parametrize("reply", NONE)
def test_no_score_is_guessed(reply):
  with pytest.raises(Unreadable):
    verdicts.score(reply)
  with pytest.raises(Unreadable):
    criteria.read_score(reply, "factuality")


@pytest.mark.parametrize(
  "reply",
  [
    '{"pred": "yes", "score": 4}. Not, for example, {"pred": "no", "score": 0}',
    'As in {"pred": "no", "score": 2}: {"pred": "yes", "score": 4}',
    "pred: yes, score: 4. A wrong answer would be pred: no, score: 0.",
    "pred: yes or no, score: 4",
    "pred: yes/no, score: 4",
    "pred: yes. No wait, pred: no. score: 4",
    '{"pred": "yes"} {"pred": "no", "score": 4}',
    '{"pred": "yes and no", "score": 4}',
  ],
)
def test_a_verdict_beside_another_is_asked_again(reply):
  with pytest.raises(Unreadable):
    verdicts.verdict(reply)


@pytest.mark.parametrize(
  "reply",
  [
    '{"1": 3, "2": 0} {"1": 3, "2": 1}',
    '{"1": 3} {"1": 3, "2": 0}',
    '{"1": "3/10", "2": 0}',
    '{"1": "2-3", "2": 0}',
    '{"1": -1, "2": 0}',
  ],
)
def test_scores_in_two_ways_are_asked_again(reply):
  with pytest.raises(Unreadable):
    criteria.read_scores(reply, [0, 1])


def test_the_same_scores_twice_are_read():
  reply = '{"1": 3, "2": 0}\nAs JSON: {"scores": {"2": 0, "1": "3"}}'
  assert criteria.read_scores(reply, [0, 1]) == {0: 3, 1: 0}


def test_better_is_said_once():
  assert verdicts.better("better: 2") == 2
  for reply in ("better: 1. Or better: 2", '{"better": 1} {"better": 2}'):
    with pytest.raises(Unreadable):
      verdicts.better(reply)


def test_what_is_read_is_what_was_said():
  """Random wrappings: the score is the one put in, or nothing is read."""
  rng = random.Random(0)
  before = [
    "",
    "Sure!\n",
    "```json\n",
    "My 2 remarks: ",
    "Score: 2/10\n",
    "3? ",
  ]
  after = ["", "\n```", " Done.", " Sorry, 3.", "\nscore: 1", " {'score': 0}"]
  forms = ['{"score": %s}', "{'reason': 'x, 3', 'score': %s}", "score: %s"]
  every = list(itertools.product(MARKED, before, forms, after))
  seen = 0
  for thought, lead, form, tail in rng.sample(every, 1000):
    reply = thought + lead + form % 4 + tail
    try:
      got = reading.score(reply, 0, 5)
    except Unreadable:
      continue
    seen += 1
    assert got == 4, reply
    assert not any(mark in tail for mark in ("score", "3")), reply
  assert seen > 200


@pytest.mark.parametrize(
  "text",
  [
    "<think" * 20_000,
    "<think>" * 20_000,
    "<think " + " " * 50_000,
    "</think>" * 20_000,
    "<|channel|>analysis" * 9_000,
    "<details reasoning" * 9_000,
    "score" * 20_000,
    "score: " * 5_000,
    "score: 4 " * 5_000,
    "score" + " " * 50_000,
    "9" * 50_000,
    "analysis" * 9_000,
  ],
)
def test_hostile_replies_end_soon(text):
  start = time.process_time()
  for read in (thoughts.without_thoughts, verdicts.score, verdicts.verdict):
    try:
      read(text)
    except Unreadable:
      pass
  assert time.process_time() - start < 5.0


def test_random_replies_end_in_a_value_or_in_unreadable():
  parts = [t for t in MARKED] + FOUR + NONE + ["{", "}", '"', "<think>", "\0"]
  rng = random.Random(1)
  for _ in range(1000):
    reply = "".join(rng.choices(parts, k=rng.randint(1, 4)))
    cut = reply[: rng.randint(0, len(reply))]
    for read in (verdicts.text, verdicts.score, verdicts.better):
      try:
        json.dumps(read(cut), allow_nan=False)
      except Unreadable:
        pass


def test_a_score_that_must_be_whole_is():
  assert reading.score('{"score": 4}', 0, 5, whole=True) == 4
  with pytest.raises(Unreadable):
    reading.score('{"score": 4.5}', 0, 5, whole=True)
  assert reading.score('{"score": 4.5}', 0, 5) == 4.5
