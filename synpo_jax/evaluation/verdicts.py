"""Reading a judge's replies: tolerant of form, strict about meaning."""

from typing import NamedTuple

from synpo_jax.endpoints.thoughts import without_thoughts
from synpo_jax.judging import reading
from synpo_jax.judging.replies import Unreadable, object_schema, whole_number

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
  said = reading.fields(reply, ("pred", "score"))
  word = str(said["pred"]).strip().strip(".!").lower()
  if word not in ("yes", "no", "true", "false"):
    raise Unreadable(f"pred is {said['pred']!r}, neither yes nor no")
  return Verdict(word in ("yes", "true"), reading.scored(said, 0, 5))


def score(reply: str) -> float:
  """{"score": 0..5} in any quoting; the official prompts show decimals."""
  return reading.score(reply, 0, 5)


def better(reply: str) -> int:
  """{"better": 1, 2 or 0}."""
  said = reading.fields(reply, ("better",))
  return whole_number(said["better"], 0, 2, "better")
