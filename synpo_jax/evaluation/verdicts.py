"""Reading a judge's replies: tolerant of form, strict about meaning."""

import re
from typing import NamedTuple

from synpo_jax.judging.replies import (
  Unreadable,
  object_schema,
  objects,
  whole_number,
  without_thoughts,
)

SCALE = {"type": "integer", "minimum": 0, "maximum": 5}
VERDICT_SCHEMA = object_schema(
  pred={"type": "string", "enum": ["yes", "no"]}, score=SCALE
)
SCORE_SCHEMA = object_schema(score=SCALE)
BETTER_SCHEMA = object_schema(better={"type": "integer", "enum": [0, 1, 2]})


class Verdict(NamedTuple):
  """Whether an answer agrees with the key, and how well from 0 to 5."""

  correct: bool
  score: float


def text(reply: str) -> str:
  """The reply itself, without thoughts; raises Unreadable when empty."""
  words = without_thoughts(reply).strip()
  if not words:
    raise Unreadable("the reply is empty")
  return words


def verdict(reply: str) -> Verdict:
  """{"pred": yes or no, "score": 0..5} in any quoting and any case."""
  fields = _fields(reply, ("pred", "score"))
  word = str(fields["pred"]).strip().strip(".!").lower()
  if word not in ("yes", "no", "true", "false"):
    raise Unreadable(f"pred is {fields['pred']!r}, neither yes nor no")
  return Verdict(word in ("yes", "true"), _score(fields["score"]))


def score(reply: str) -> float:
  """{"score": 0..5} in any quoting."""
  return _score(_fields(reply, ("score",))["score"])


def better(reply: str) -> int:
  """{"better": 1, 2 or 0}."""
  return whole_number(_fields(reply, ("better",))["better"], 0, 2, "better")


def _score(value) -> float:
  """A number from 0 to 5; the official prompts show one with decimals."""
  if isinstance(value, str) and re.fullmatch(
    r"\s*\d(\.\d+)?\s*(/\s*5)?", value
  ):
    value = float(value.split("/")[0])
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise Unreadable(f"score is {value!r}, not a number")
  if not 0 <= value <= 5:  # NaN fails too
    raise Unreadable(f"score is {value}, outside 0 to 5")
  return float(value)


def _fields(reply, names) -> dict:
  """The last object that has all the names; else `name: value` in words."""
  if "{" not in reply:
    return _words(reply, names)
  for found in reversed(objects(reply)):
    lower = {str(key).lower(): value for key, value in found.items()}
    if all(name in lower for name in names):
      return lower
  raise Unreadable(f"no object with {' and '.join(names)}")


def _words(reply, names) -> dict:
  fields = {}
  for name in names:
    pattern = rf"\b{name}\W{{1,4}}(yes|no|\d+(?:\.\d+)?)(?![\w.]*\d)"
    match = re.search(pattern, reply, re.IGNORECASE)
    if not match:
      raise Unreadable(f"no JSON object, and no {name} in words")
    fields[name] = match.group(1)
  return fields
