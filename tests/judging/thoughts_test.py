"""Thoughts within thoughts."""

import pytest

from synpo_jax.judging import thoughts


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("<think>a<think>b</think> score: 1</think>score: 4", "score: 4"),
    ("<think>a<think>b</think> score: 1", ""),  # the outer one goes on
  ],
)
def test_a_thought_ends_where_the_outermost_does(text, said):
  assert thoughts.without_thoughts(text).strip() == said
