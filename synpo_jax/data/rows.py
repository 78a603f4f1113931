"""One preference row, as a file holds it, to a checked pair.

A row: `question`, `chosen`, `rejected`, and optionally `video` (a path, or a
name in the video folder; absent for text-only rows), `chosen_score`,
`rejected_score`, `id`. The official release's names are read too, rows whose
`chosen` and `rejected` are lists of chat messages that differ in the last one,
and the forms of other programs (data/forms.py). A caption known to be right is
read where it is needed, as `reference_caption` or `reference`. Rows of all
judged captions are those of data/lists.py. Media and words that we do not use
are refused by name; other keys are provenance and left alone.
"""

import sys
from typing import Any, NamedTuple

from synpo_jax.data import forms, lists, media, several, turns
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
KNOWN = {name for names in NAMES.values() for name in names} | {*lists.NAMES}

GOLD = ("reference_caption", "reference")  # the latter is TRL's, for TPO

# What other formats call a question, and what they put before it.
ASKED = ("instruction", "input", "query", "messages", "conversations")
ASKED += ("conversation", "problem")
EARLIER = ("history", "system", "system_prompt", "tools", "context")
BESIDE = ("system_prompt", "tools")  # what a row of messages may not hold back


class Pair(NamedTuple):
  """One row, checked. `rejected` is None in rows for plain fine-tuning.

  gold: the reference caption, None where it is not learnt from. listed: all
  judged captions, of which chosen and rejected are two; None likewise.
  """

  id: str
  video: str | None  # as the row writes it
  question: str
  history: tuple[Message, ...]  # turns before the question, oldest first
  chosen: str
  rejected: str | None
  chosen_score: float | None
  rejected_score: float | None
  gold: str | None = None
  listed: lists.Listed | None = None


class Row(NamedTuple):
  """A pair as its row holds it.

  of_prompt: its id is its prompt's, which other pairs may share. marked:
  the question had a mark of the video, which is gone. form: the row's, in
  words.
  """

  pair: Pair
  of_prompt: bool
  marked: bool
  form: str


def read(
  row: dict[str, Any] | Fault, question: str | None, captions: int, scored: bool
) -> Row:
  """The pair of one row; its id is empty where the row has none.

  Args:
    row: as `files.stream` yields it; a Fault is raised. question: for a row
      that brings none. captions: 2; 1 for the chosen alone; 3 with the
      reference caption; lists.MOST for all that are judged, which a pair with
      scores has two of. scored: whether scores are needed, for min_score_gap.

  Raises:
    Fault: what is wrong with it.
  """
  if isinstance(row, Fault):
    raise row
  form, row = forms.ours(row)
  fields = _fields(row)
  told = turns.unfold(fields, captions)
  fields = told.fields
  _check_words(row, fields, told.is_chat)
  media.check(row, KNOWN, seen=fields["video"] is not None)
  pair, marked = _pair(fields, told.history, question, captions, scored)
  if captions == 3:
    pair = _with_gold(pair, row)
  if captions > 1 and (form == lists.FORM or captions == lists.MOST):
    pair = _with_list(pair, row if form == lists.FORM else None, scored)
  of_prompt = row.get("id") is None and row.get("prompt_id") is not None
  return Row(pair, of_prompt, marked, form)


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
    distinct = {repr(value) for value in given.values()}
    if len(distinct) > 1 and field != "id":
      raise Fault(f"{' and '.join(given)} say different things")
    fields[field] = next(iter(given.values()), None)
  return fields


def _check_words(row: dict, fields: dict, is_chat: bool) -> None:
  """Raises Fault for a question or earlier turns under names not read."""
  for name in BESIDE if is_chat else EARLIER:
    if row.get(name):
      raise Fault(
        f"{name!r} is not read; write what comes before the question as "
        "messages in 'chosen' and 'rejected', or take it out"
      )
  if is_chat:  # the messages are all there is
    return
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
  most = len(several.parts_of(video)) if seen else 1
  asked, marked = media.unmarked(asked, seen, most)
  for _, earlier in history:
    media.check_earlier(earlier, seen)
  pair = Pair(
    id="" if fields["id"] is None else str(fields["id"]),
    video=video,
    question=asked,
    history=history,
    chosen=turns.text(fields, "chosen"),
    rejected=turns.text(fields, "rejected") if captions > 1 else None,
    chosen_score=_score(fields, "chosen_score", scored),
    rejected_score=_score(fields, "rejected_score", scored),
  )
  if pair.rejected is not None and pair.chosen.strip() == pair.rejected.strip():
    raise Fault("chosen and rejected are the same text")
  return pair, marked


def _with_gold(pair: Pair, row: dict) -> Pair:
  """The pair with its row's reference caption: a text, or messages."""
  given = {name: row[name] for name in GOLD if row.get(name) is not None}
  if not given:
    raise Fault(f"lacks {GOLD[0]!r}, from which the loss learns")
  texts = {turns.answer(given, name) for name in given}
  if len(texts) > 1:
    raise Fault(f"{' and '.join(given)} say different things")
  (gold,) = texts
  if gold.strip() == pair.rejected.strip():
    raise Fault("rejected and reference caption are the same text")
  return pair._replace(gold=gold)


def _with_list(pair: Pair, row: dict | None, scored: bool) -> Pair:
  """The pair with its row's judged captions; row: None where it has two."""
  if row is not None:
    found = lists.Listed(row["captions"], row["scores"])
  else:
    found = _two(pair)
  if not scored:  # else the gap says it
    lists.check_order(found)
  return pair._replace(listed=found)


def _two(pair: Pair) -> lists.Listed:
  """A pair as a list of two; raises Fault."""
  for name in ("chosen_score", "rejected_score"):
    if getattr(pair, name) is None:
      raise Fault(f"lacks {name!r}, by which the loss orders captions")
    lists.check_score(name, getattr(pair, name))
  best, worst = pair.chosen_score, pair.rejected_score
  if best < worst:
    raise Fault(f"'chosen_score' {best:g} is below 'rejected_score' {worst:g}")
  return lists.Listed((pair.chosen, pair.rejected), (best, worst))


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
