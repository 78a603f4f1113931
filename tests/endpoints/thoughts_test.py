"""What a model thinks aloud is no part of its reply."""

import pytest

from synpo_jax.endpoints import thoughts
from synpo_jax.evaluation import verdicts
from synpo_jax.judging.replies import Unreadable
from synpo_jax.pairing import criteria
from tests.support.thought_forms import MARKED


@pytest.mark.parametrize("thought", MARKED)
def test_thoughts_of_every_form_are_passed_over(thought):
  for said in ('{"pred": "yes", "score": 4}', "pred: yes, score: 4"):
    for end in ("", "\n", "<|im_end|>", "<|return|>"):
      got = verdicts.verdict(f"{thought}{said}{end}")
      assert tuple(got) == (True, 4.0)
  assert verdicts.score(f"{thought}\nscore: 4") == 4
  assert verdicts.text(f"{thought} A red ball.") == "A red ball."
  scores = '{"scores": {"1": 3, "2": 0}}'
  assert criteria.read_scores(thought + scores, [0, 1]) == {0: 3, 1: 0}


@pytest.mark.parametrize(
  "reply",
  [
    "<think>it is 4",
    "<think>score: 4",
    '[THINK]{"score": 4}',
    '<|channel|>analysis<|message|>{"score": 4}',
    "<think>score: 4</think>",
    '{"score": 4}</think>',
  ],
)
def test_a_thought_alone_is_no_reply(reply):
  for read in (verdicts.text, verdicts.score):
    with pytest.raises(Unreadable):
      read(reply)


@pytest.mark.parametrize(
  ("reply", "text"),
  [
    ("<answer>red</answer>", "red"),
    ("red<|eot_id|>", "red"),
    ("a < b and c > d", "a < b and c > d"),
    ("<details>red</details>", "<details>red</details>"),
    ("I think it is red.", "I think it is red."),
    ("<|channel|>final<|message|>red", "red"),
  ],
)
def test_words_of_the_reply_stay(reply, text):
  assert verdicts.text(reply) == text


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("<think>a<think>b</think> score: 1</think>score: 4", "score: 4"),
    ("<think>a<think>b</think> score: 1", ""),  # the outer one goes on
  ],
)
def test_a_thought_ends_where_the_outermost_does(text, said):
  assert thoughts.without_thoughts(text).strip() == said
