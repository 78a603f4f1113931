"""AutoDQ: events of a caption held against a reference, and back (2407.00634).

A judge lists the events of the caption and, where the file has none, of the
reference. Precision is the share of the caption's events that the reference
entails, recall that of the reference's which the caption entails. A category
has the means of both over its videos, the whole the means over categories,
and F1 is made of the means, as DREAM-1K does it.
"""

import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from synpo_jax.data import prompts as ours
from synpo_jax.endpoints import paid
from synpo_jax.evaluation import judge_prompts, relations
from synpo_jax.evaluation.items import (
  Benchmark,
  Item,
  limited,
  mean,
  one_file,
  standard_error,
)
from synpo_jax.judging import judge

NEEDS = (
  "the texts video and reference, and may have category, question and events, "
  "a list of texts"
)
ALL = "all"  # the category of rows that name none


class Reference(NamedTuple):
  """What is known of a video; events: None where the judge lists them."""

  text: str
  category: str
  question: str
  events: tuple[str, ...] | None


class Told(NamedTuple):
  """A reference beside the caption of its video, both with their events."""

  video: str
  reference: Reference
  caption: str
  expected: list[str] | None  # events of the reference; None: not to be had
  claimed: list[str] | None  # events of the caption
  failure: str | None


def read_references(path: str | pathlib.Path) -> dict[str, Reference]:
  """{video: reference} of a JSONL file; ValueError names every faulty line."""

  def read(row):
    (text,) = relations.texts(row, "reference")
    defaults = {"category": ALL, "question": ours.TRAINING_QUESTION}
    named = relations.texts(defaults | row, *defaults)
    events = row.get("events")
    listed = None if events is None else relations.sentences(events)
    return Reference(text, *named, listed)

  return relations.read_rows(path, read, NEEDS)


def judge_captions(
  references: dict[str, Reference],
  captions: dict[str, str],
  prompts: judge_prompts.Prompts,
  ask: Callable[..., judge.Usage],
  *,
  event_tokens: int,
  relate_tokens: int,
) -> tuple[list[dict], judge.Usage]:
  """A row per video: precision, recall, F1, and the events they are made of.

  Nothing is asked of a blank caption, which has no events and entails none.
  """
  asked = _events_requests(references, captions, prompts, event_tokens)
  listed, first = judge.collect(ask, asked)
  told = [
    _told(video, reference, captions[video], listed)
    for video, reference in references.items()
  ]
  asked = _relation_requests(told, prompts, relate_tokens)
  related, second = judge.collect(ask, asked)
  return [_row(item, related) for item in told], paid.together(first, second)


def _events_requests(references, captions, prompts, max_tokens):
  for video, reference in references.items():
    texts = {"caption": captions[video]}
    if reference.events is None:
      texts["reference"] = reference.text
    for side, text in texts.items():
      if text.strip():
        key = f"{video}/{side}"
        yield relations.events_request(key, text, prompts, max_tokens)


def _told(video, reference, caption, listed) -> Told:
  """The events of both sides, as the judge listed them or the file has them."""
  nothing = judge.Answer("", [], None)
  claimed = listed.get(f"{video}/caption", nothing)
  given = judge.Answer("", list(reference.events or ()), None)
  expected = listed.get(f"{video}/reference", given)
  events = expected.value, claimed.value
  failure = expected.missing or claimed.missing
  return Told(video, reference, caption, *events, failure)


def _relation_requests(told, prompts, max_tokens):
  for item in told:
    sides = {
      "recall": (item.caption, item.expected),
      "precision": (item.reference.text, item.claimed),
    }
    for side, (text, events) in sides.items():
      if item.failure is None and events and text.strip():
        key = f"{item.video}/{side}"
        yield relations.request(key, text, events, prompts, max_tokens)


def _row(item: Told, related) -> dict:
  expected, claimed = item.expected or [], item.claimed or []
  blank = judge.Answer("", [relations.NEUTRAL] * len(expected), None)
  nothing = judge.Answer("", [], None)
  if item.failure:
    blank = nothing = judge.Answer("", None, item.failure)
  found = related.get(f"{item.video}/recall", blank)
  true = related.get(f"{item.video}/precision", nothing)
  failure = found.missing or true.missing
  row = {
    "id": item.video,
    "video": item.video,
    "category": item.reference.category,
    "caption": item.caption,
    "failure": failure,
  }
  if failure:
    row |= dict.fromkeys(("precision", "recall", "f1", "contradicted"))
  else:
    precision = relations.share(true.value, relations.ENTAILED)
    recall = relations.share(found.value, relations.ENTAILED)
    row |= {"precision": precision, "recall": recall}
    row["f1"] = f1(precision, recall)
    wrong = relations.share(true.value, relations.CONTRADICTED)
    row["contradicted"] = wrong
  row["reference_events"] = relations.paired(expected, found.value)
  row["caption_events"] = relations.paired(claimed, true.value)
  return row


def f1(precision: float | None, recall: float | None) -> float | None:
  """Their harmonic mean; 0 where nothing is found, None without a precision
  or a recall."""
  if recall == 0.0 or precision == 0.0:
    return 0.0
  if precision is None or recall is None:
    return None
  return 2 * precision * recall / (precision + recall)


def summarise(rows: list[dict]) -> dict:
  """Precision, recall and F1 of the whole and of each category, with errors.

  …_se: standard errors over videos. Captions without events have no precision
  and are counted; videos of which a judgement failed are counted, not scored.
  """
  parts = {
    name: _part([row for row in rows if row["category"] == name])
    for name in dict.fromkeys(row["category"] for row in rows)
  }
  counts = ("judged", "failed", "captions_without_events")
  sums = {name: sum(part[name] for part in parts.values()) for name in counts}
  return {**_whole(list(parts.values())), **sums, "categories": parts}


def _part(rows) -> dict:
  """The figures of the videos of one category."""
  done = [row for row in rows if row["failure"] is None]
  columns = {
    name: [row[name] for row in done]
    for name in ("precision", "recall", "contradicted")
  }
  found = {}
  for name, values in columns.items():
    found[name], found[f"{name}_se"] = mean(values), standard_error(values)
  return _with_f1(found) | {
    "judged": len(done),
    "failed": len(rows) - len(done),
    "captions_without_events": columns["precision"].count(None),
  }


def _whole(parts) -> dict:
  """Means over categories; errors of these add up in squares."""
  found = {}
  for name in ("precision", "recall", "contradicted"):
    came = [part for part in parts if part[name] is not None]
    found[name] = mean(part[name] for part in came)
    errors = [part[f"{name}_se"] for part in came]
    known = bool(errors) and None not in errors
    found[f"{name}_se"] = math.hypot(*errors) / len(errors) if known else None
  return _with_f1(found)


def _with_f1(found: dict) -> dict:
  """F1 of the means, and its error by their derivatives.

  Precision and recall are taken to err independently of each other.
  """
  p, r = found["precision"], found["recall"]
  found["f1"], found["f1_se"] = f1(p, r), None
  errors = found["precision_se"], found["recall_se"]
  if p and r and None not in errors:
    slopes = 2 * r * r / (p + r) ** 2, 2 * p * p / (p + r) ** 2
    parts = [slope * e for slope, e in zip(slopes, errors, strict=True)]
    found["f1_se"] = math.hypot(*parts)
  return found


def list_items(c, prompts) -> list[Item]:
  """One caption per video, by the question of its own row."""
  rows = read_references(c.data.references)
  return [
    Item(video, video, "", (rows[video].question,))
    for video in limited(rows, c.limit)
  ]


def score_captions(c, items, captions, prompts, ask):
  """AutoDQ by a judge."""
  known = read_references(c.data.references)
  references = {item.video: known[item.video] for item in items}
  rows, usage = judge_captions(
    references, captions, prompts, ask, **c.judge_tokens
  )
  return rows, summarise(rows), usage


BENCHMARK = Benchmark(list_items, score_captions, one_file, "")
