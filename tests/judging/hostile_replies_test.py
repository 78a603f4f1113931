"""Replies of all sorts: what they say, or Unreadable, and soon.

A failure prints the smallest reply that shows it, and how to draw it again.
"""

import json
import re
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from synpo_jax.endpoints import thoughts
from synpo_jax.judging import reading, replies
from synpo_jax.judging.replies import Unreadable
from tests.support import draws

# What replies are made of, so that draws meet the grammar at all.
PIECES = st.sampled_from(
  (
    *("{", "}", "[", "]", ":", ",", '"', "'", "\\", "“", "”", " ", "\n", "=>"),
    *(
      "score",
      '"score"',
      "'score':",
      "Score: ",
      "score is ",
      "pred",
      "_",
      "**",
    ),
    *("0", "1", "3", "5", "-1", "4.5", "1e9", "999999999999", "/5", " out of "),
    *("NaN", "Infinity", "true", "no", "null", "yes", "\\u00e9", "\\ud83d"),
    *("<think>", "</think>", "[THINK]", "◁/think▷", "<|channel|>analysis"),
    *("<|message|>", "<|end|>", "<unused94>", "&lt;think&gt;", "</details>"),
    *("<details reasoning>", "Thinking Process:", "...done thinking."),
    *("```json\n", "\n```", "<answer>", "if ", "not ", "wait ", "e.g. ", "\0"),
  )
)
REPLIES = st.lists(PIECES, max_size=30).map("".join)
# Marks of thoughts and wraps, which are words like others within a string.
MARKS = st.sampled_from(
  ("<think>", "</think>", "<s>", "</s>", "<|end|>", "</answer>", "[THINK]", "{")
)
VALUES = st.recursive(
  st.none()
  | st.booleans()
  | st.integers(-(10**20), 10**20)
  | st.floats(allow_nan=False, allow_infinity=False)
  | st.text(alphabet=st.characters(codec="utf-8"), max_size=9)
  | st.lists(MARKS, max_size=3).map("".join),
  lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
  ),
  max_leaves=4,
)
NAMES = st.text("abcdefgh_", min_size=1, max_size=6)
SECONDS = 2.0  # that reading one reply may take


@pytest.fixture(autouse=True, scope="module")
def in_time():
  yield
  assert max(SPENT, default=0.0) < SECONDS


SPENT = []


def said(read, *args, **how):
  """What a reader makes of a reply, None where it is Unreadable."""
  start = time.process_time()
  try:
    return read(*args, **how)
  except Unreadable as error:
    assert str(error)
    return None
  finally:
    SPENT.append(time.process_time() - start)


@hypothesis.given(reply=REPLIES, whole=st.booleans())
def test_every_reader_ends_in_what_the_reply_says_or_unreadable(reply, whole):
  value = said(reading.score, reply, 0, 5, whole=whole)
  if value is not None:
    assert isinstance(value, float) and 0 <= value <= 5
    assert not whole or value == int(value)
    figures = re.findall(r"\d*\.?\d+(?:[eE][+-]?\d+)?", reply)
    assert value in [float(figure) for figure in figures]
  found = said(reading.fields, reply, ("pred", "score"))
  assert found is None or {"pred", "score"} <= found.keys()
  whole = said(replies.objects, reply)
  assert whole is None or all(isinstance(one, dict) for one in whole)
  plain = said(thoughts.without_thoughts, reply)
  assert isinstance(plain, str) and len(plain) <= 2 * len(reply) + 1


@draws.most(400)
@hypothesis.given(
  value=st.dictionaries(NAMES, VALUES, min_size=1),
  ascii=st.booleans(),
  fence=st.sampled_from(("{}", "```json\n{}\n```", "\n{} \n")),
)
@hypothesis.example(value={"a": ["</think>", {}]}, ascii=True, fence="{}")
@hypothesis.example(value={"a": {"<s>": "<think>"}}, ascii=True, fence="{}")
def test_an_object_is_read_as_it_was_written(value, ascii, fence):
  reply = fence.replace("{}", json.dumps(value, ensure_ascii=ascii))
  assert said(replies.objects, reply) == [value]


@draws.most(300)
@hypothesis.given(
  score=st.integers(0, 5),
  thought=st.lists(PIECES, max_size=9).map("".join),
  before=st.sampled_from(("", "My verdict: ", "```json\n")),
)
def test_no_thought_is_taken_for_the_reply(score, thought, before):
  hypothesis.assume(not thoughts.MARK.search(thought))
  hypothesis.assume(not thoughts.CHANNEL.search(thought))
  reply = f'<think>{thought}</think>{before}{{"score": {score}}}'
  assert said(reading.score, reply, 0, 5) == score
