import json
import random
import time

import pytest

from synpo_jax.judging import replies

# What models write around an object, and what must be read.
SPOKEN = [
  ('{"score": 4}', {"score": 4}),
  ('Sure!\n```json\n{"score": 4}\n```\nHope that helps.', {"score": 4}),
  (
    "{'reason': 'it\\'s fine', 'score': 3,}",
    {"reason": "it's fine", "score": 3},
  ),
  ("{'reason': 'it's fine', 'score': 3}", {"reason": "it's fine", "score": 3}),
  ('<think>{"score": 1}?</think>{"score": 5}', {"score": 5}),
  ('The set {a, b} scores {"score": 2}', {"score": 2}),
  ('First {"score": 1}, no: {"score": 2}', {"score": 2}),
  ('{{"score": 2}}', {"score": 2}),
  ("{score: 2, ok: True, why: None}", {"score": 2, "ok": True, "why": None}),
  ("{1: 3, 2: 0}", {"1": 3, "2": 0}),
  (r"{'a': '\ud800\udc00 \udbff\udfff'}", {"a": "\U00010000 \U0010ffff"}),
  (r"{'a': '\ud800! \udc00'}", {"a": "\ud800! \udc00"}),  # of no pair
]


@pytest.mark.parametrize(("text", "wanted"), SPOKEN)
def test_objects_are_found_in_prose(text, wanted):
  assert replies.objects(text)[-1] == wanted


@pytest.mark.parametrize(
  "text",
  [
    '{"score": 1, "score": 5}',
    '{"notes": {"score": 1}, oops "score": 4}',
    '{"scores": [{"caption": 1, "score": 2}',
    "__import__('os').system('true')",
  ],
)
def test_half_an_object_is_none(text):
  with pytest.raises(replies.Unreadable):
    replies.objects(text)


def random_value(rng, depth=3):
  kinds = ["text", "int", "float", "name"] + ["list", "dict"] * (depth > 0)
  kind = rng.choice(kinds)
  if kind == "text":
    return "".join(rng.choice("ab \"'\\\n\t{}[],:é😀") for _ in range(9))
  if kind == "int":
    return rng.randint(-(10**9), 10**9)
  if kind == "float":
    return rng.uniform(-1e3, 1e3)
  if kind == "name":
    return rng.choice([True, False, None])
  size = rng.randint(0, 3)
  if kind == "list":
    return [random_value(rng, depth - 1) for _ in range(size)]
  return {f"k{i}\"'": random_value(rng, depth - 1) for i in range(size)}


def test_whatever_json_writes_is_read():
  rng = random.Random(0)
  for _ in range(300):
    value = {"x": random_value(rng), "y": random_value(rng)}
    text = json.dumps(
      value, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2])
    )
    assert replies.objects(f"Here: {text} :)") == [value]


@pytest.mark.parametrize("text", ["{" * 50000, '{"a":' * 20000, "{'a" * 20000])
def test_hostile_replies_do_not_take_long(text):
  start = time.process_time()
  with pytest.raises(replies.Unreadable):
    replies.objects(text)
  assert time.process_time() - start < 2.0
