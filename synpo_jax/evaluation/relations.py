"""How a description stands to statements: it says so, otherwise, or nothing."""

import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from synpo_jax.evaluation import judge_prompts
from synpo_jax.judging import judge, reading
from synpo_jax.judging.replies import Unreadable, object_schema
from synpo_jax.runtime import buckets
from synpo_jax.runtime.jsonl import lines
from synpo_jax.runtime.terminal import together

ENTAILED, CONTRADICTED, NEUTRAL = "entailment", "contradiction", "neutral"
# What a judge may write for them.
WORDS = {
  **{word: ENTAILED for word in (ENTAILED, "entailed", "entails")},
  **{
    word: CONTRADICTED for word in (CONTRADICTED, "contradicted", "contradicts")
  },
  NEUTRAL: NEUTRAL,
}
MOST_EVENTS = 20  # of a description; a judge is asked for ten
SENTENCES = {"type": "array", "items": {"type": "string"}}


def request(
  key: str,
  text: str,
  claims: Sequence[str],
  prompts: judge_prompts.Prompts,
  max_tokens: int,
) -> judge.Request:
  """A question about all the statements; its value is a relation of each."""
  numbered = [f"{n}. {claim.strip()}" for n, claim in enumerate(claims, 1)]
  fields = dict(text=text, claims="\n".join(numbered))
  messages = judge_prompts.fill(prompts, "relate", **fields)
  word = {"type": "string", "enum": [ENTAILED, CONTRADICTED, NEUTRAL]}
  names = _names(len(claims))
  schema = object_schema(**dict.fromkeys(names, word))
  parse = functools.partial(read, count=len(claims))
  version = f"relate {prompts.version}"
  return judge.Request(key, messages, parse, schema, max_tokens, version)


def read(reply: str, count: int) -> list[str]:
  """The relations of statements 1 to count, in order.

  Raises Unreadable for a reply that leaves one out, knows more of them, or
  gives one another word.
  """
  said = reading.fields(reply, _names(count))
  if unknown := [n for n in said if n.isdecimal() and n not in _names(count)]:
    raise Unreadable(f"there is no statement {unknown[0]}")
  return [_relation(said[name], name) for name in _names(count)]


def read_events(reply: str) -> list[str]:
  """The sentences of {"events": […]}, without spaces around them."""
  said = reading.fields(reply, ("events",))["events"]
  if not isinstance(said, list) or not all(isinstance(e, str) for e in said):
    raise Unreadable("events is no list of sentences")
  found = [event.strip() for event in said]
  if not all(found):
    raise Unreadable("one of its events is empty")
  if len(found) > MOST_EVENTS:
    raise Unreadable(f"it lists {len(found)} events, where ten are the most")
  return found


def events_request(
  key: str, text: str, prompts: judge_prompts.Prompts, max_tokens: int
) -> judge.Request:
  """What happens in a description, as a list of sentences."""
  messages = judge_prompts.fill(prompts, "events", text=text)
  read = read_events, object_schema(events=SENTENCES)
  version = f"events {prompts.version}"
  return judge.Request(key, messages, *read, max_tokens, version)


def share(relations: Sequence[str], *wanted: str) -> float | None:
  """How many of the relations are these; None of none."""
  if not relations:
    return None
  return sum(relation in wanted for relation in relations) / len(relations)


def paired(
  claims: Sequence[str], relations: Sequence[str] | None
) -> list[dict]:
  """Statements with their relations, None where there is none, for a row."""
  told = relations or [None] * len(claims)
  return [
    {"claim": claim, "relation": relation}
    for claim, relation in zip(claims, told, strict=True)
  ]


def read_rows(
  path: str | pathlib.Path, read_row: Callable[[dict], Any], needs: str
) -> dict[str, Any]:
  """{video: what read_row makes of a row} of a JSONL file.

  A row names its video in "video" or "video_name". needs: what a row has to
  hold, in words. Raises ValueError with every faulty line, where read_row
  raises ValueError, KeyError or TypeError.
  """
  path = buckets.at(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} not found: data.references names the rows")
  found, faults = {}, []
  for number, line in lines(path):
    try:
      row = json.loads(line)
      video = row["video_name"] if "video_name" in row else row["video"]
      made = read_row(row)
    except (ValueError, KeyError, TypeError):
      faults.append(f"{path} line {number}: needs {needs}")
      continue
    if not isinstance(video, str):
      faults.append(f"{path} line {number}: its video is no text")
    elif video in found:
      faults.append(f"{path} line {number}: video {video!r} is there twice")
    found[str(video)] = made
  if faults:
    raise ValueError(together(path, faults))
  return found


def texts(row: dict, *names: str) -> list[str]:
  """The row's texts under these names. Raises as read_rows takes it."""
  found = [row[name] for name in names]
  if not all(isinstance(text, str) and text.strip() for text in found):
    raise TypeError
  return found


def sentences(value: Any) -> tuple[str, ...]:
  """A list of texts that are not blank. Raises as read_rows takes it."""
  if not isinstance(value, list):
    raise TypeError
  return tuple(texts({"": one}, "")[0] for one in value)


def _names(count) -> tuple[str, ...]:
  return tuple(str(number) for number in range(1, count + 1))


def _relation(value, name) -> str:
  word = str(value).strip().strip(".!\"'").lower()
  if word not in WORDS:
    raise Unreadable(f"statement {name} is {str(value)!r}, none of the words")
  return WORDS[word]
