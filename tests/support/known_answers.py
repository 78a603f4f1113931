"""Right replies to what judges are tried with, for stand-ins that pass."""

import functools
import inspect
import itertools
import json

from synpo_jax.evaluation import known_items as of_benchmarks
from synpo_jax.evaluation.judge_prompts import OURS_ALONE
from synpo_jax.judging.replies import Unreadable
from synpo_jax.pairing import known_items as of_pairs
from tests.support.judge_server import chat

PLAIN = ["not mentioned", "yellow", "green"]
PLAIN += [json.dumps({"reason": "r", "score": score}) for score in range(6)]
PLAIN += [f'{{"pred": "{word}", "score": 3}}' for word in ("yes", "no")]
PLAIN += ['{"events": []}', '{"events": ["x y", "y z", "z x"]}']
PLAIN += [
  json.dumps(dict(zip("12", words, strict=True)))
  for words in itertools.product(("entailment", "neutral"), repeat=2)
]
PLAIN += ['{"better": 1}', '{"better": 2}']
PLAIN += [
  json.dumps({"scores": {str(i): 3 * (i != low) for i in range(1, 5)}})
  for low in range(1, 5)
]


def reply(body):
  """A right reply to a question of a trial; None to any other question."""
  return _replies().get(body["messages"][-1]["content"])


@functools.cache
def _replies():
  """{the question's last message: a response}, of all that is known."""
  known = of_pairs.items()
  for make in of_benchmarks.KNOWN.values():
    tokens = [n for n in inspect.signature(make).parameters if n != "prompts"]
    known += make(OURS_ALONE, **dict.fromkeys(tokens, 64))
  return {
    item.request.messages[-1]["content"]: chat(_right(item)) for item in known
  }


def _right(item):
  """The first of the plain replies that the item takes."""
  for text in PLAIN:
    try:
      if item.wanted.holds(item.request.parse(text)):
        return text
    except Unreadable:
      pass
  raise AssertionError(f"no plain reply answers {item.request.id}")
