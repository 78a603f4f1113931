"""One preference row: a line of JSON to a checked pair.

A row: `question`, `chosen`, `rejected`, and optionally `video` (a path, or a
name in the video folder; absent for text-only rows), `chosen_score`,
`rejected_score`, `id`. The official release's names are read too, and rows
whose `chosen` and `rejected` are lists of chat messages that differ in the
last one. Media and words that we do not use are refused by name; other keys
are provenance and left alone.
"""

import json
import sys
from typing import Any, NamedTuple

from synpo_jax.data import media, turns
from synpo_jax.data.media import Fault
from synpo_jax.data.turns import Message

# Field of a pair -> the names it goes by in files, ours first.
NAMES = {
  "id": ("id", "prompt_id", "idx"),
  "video": media.VIDEO,
  "question": ("question", "prompt"),
  "chosen": ("chosen", "pos_pre"),
  "rejected": ("rejected", "neg_pre"),
  "chosen_score": ("chosen_score", "pos_score", "score_chosen"),
  "rejected_score": ("rejected_score", "neg_score", "score_rejected"),
}
KNOWN = {name for names in NAMES.values() for name in names}

# What other formats call a question, and what they put before it.
ASKED = ("instruction", "input", "query", "messages", "conversations")
ASKED += ("conversation", "problem")
EARLIER = ("history", "system", "system_prompt", "tools", "context")


class Pair(NamedTuple):
  """One row, checked. `rejected` is None in rows for plain fine-tuning."""

  id: str
  video: str | None  # as the row writes it
  question: str
  history: tuple[Message, ...]  # turns before the question, oldest first
  chosen: str
  rejected: str | None
  chosen_score: float | None
  rejected_score: float | None


class Row(NamedTuple):
  """A pair as its line holds it.

  of_prompt: its id is its prompt's, which other pairs may share. marked:
  the question had a mark of the video, which is gone.
  """

  pair: Pair
  of_prompt: bool
  marked: bool


def read(line: bytes, question: str | None, captions: int, scored: bool) -> Row:
  """The pair of one line; its id is empty where the row has none.

  Args:
    question: for a row that brings none. captions: 2, or 1 for the chosen
      alone. scored: whether scores are needed.

  Raises:
    Fault: what is wrong with it.
  """
  row = _object(line)
  fields = _fields(row)
  told = turns.unfold(fields, captions)
  fields = told.fields
  _check_words(row, fields, told.is_chat)
  media.check(row, KNOWN, seen=fields["video"] is not None)
  pair, marked = _pair(fields, told.history, question, captions, scored)
  of_prompt = row.get("id") is None and row.get("prompt_id") is not None
  return Row(pair, of_prompt, marked)


def _object(line: bytes) -> dict[str, Any]:
  """The JSON object of a line, none of whose keys stands twice."""
  try:
    row = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_once)
  except UnicodeDecodeError as error:
    raise Fault("is not UTF-8 text") from error
  except json.JSONDecodeError as error:
    raise Fault(f"is not JSON: {error.msg} at column {error.colno}") from error
  except (ValueError, RecursionError) as error:  # Python's own limits
    raise Fault("is JSON too deep, or a number too long, to read") from error
  if not isinstance(row, dict):
    raise Fault(f"is a JSON {type(row).__name__}, not an object")
  return row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = next(key for key in keys if keys.count(key) > 1)
    raise Fault(f"{twice!r} stands twice in it")
  return found


def _fields(row: dict) -> dict[str, Any]:
  """What a row says under our names, checked for doubled fields."""
  if not isinstance(row.get("id"), str | int | None):
    raise Fault("'id' is neither text nor a whole number")
  fields = {}
  for field, names in NAMES.items():
    values = {name: row.get(name) for name in names}
    if field == "video":
      values = {name: media.one(name, v) for name, v in values.items()}
    given = {name: v for name, v in values.items() if v is not None}
    distinct = {json.dumps(value) for value in given.values()}
    if len(distinct) > 1 and field != "id":
      raise Fault(f"{' and '.join(given)} say different things")
    fields[field] = next(iter(given.values()), None)
  return fields


def _check_words(row: dict, fields: dict, is_chat: bool) -> None:
  """Raises Fault for a question or earlier turns under names not read."""
  if is_chat:  # the messages are all there is
    return
  for name in EARLIER:
    if row.get(name):
      raise Fault(
        f"{name!r} is not read; write what comes before the question as "
        "messages in 'chosen' and 'rejected', or take it out"
      )
  asked = [name for name in ASKED if row.get(name)]
  if asked and fields["question"] is None:
    raise Fault(
      f"{asked[0]!r} is not read; call the question 'question', or take it out"
    )


def _pair(fields, history, question, captions, scored) -> tuple[Pair, bool]:
  """A checked pair, and whether a mark was taken out of its question."""
  asked = fields["question"] if fields["question"] is not None else question
  if captions == 1:
    fields = fields | {"rejected": None, "rejected_score": None}
  video = None if fields["video"] is None else turns.text(fields, "video")
  seen = video is not None
  asked = turns.text({"question": asked}, "question")
  asked, marked = media.unmarked(asked, seen)
  for _, earlier in history:
    media.check_earlier(earlier, seen)
  pair = Pair(
    id="" if fields["id"] is None else str(fields["id"]),
    video=video,
    question=asked,
    history=history,
    chosen=turns.text(fields, "chosen"),
    rejected=turns.text(fields, "rejected") if captions == 2 else None,
    chosen_score=_score(fields, "chosen_score", scored),
    rejected_score=_score(fields, "rejected_score", scored),
  )
  if pair.rejected is not None and pair.chosen.strip() == pair.rejected.strip():
    raise Fault("chosen and rejected are the same text")
  return pair, marked


def _score(fields: dict, name: str, needed: bool) -> float | None:
  score = fields[name]
  if score is None:
    if needed:
      raise Fault(f"lacks {name!r}, which min_score_gap needs")
    return None
  number = isinstance(score, int | float) and not isinstance(score, bool)
  if not number or not abs(score) <= sys.float_info.max:  # NaN neither
    raise Fault(f"{name!r} is {score!r:.40}, not a finite number")
  return float(score)
