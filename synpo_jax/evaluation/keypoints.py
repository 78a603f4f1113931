"""Keypoints: how many known facts of a video its caption tells, and how right.

A judge says of every keypoint whether the caption entails it, contradicts it
or leaves it out. Accuracy is the share that is entailed, coverage that of
which the caption speaks at all, rightly or wrongly, and precision the share of
these that is right.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

from synpo_jax.data import prompts as ours
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
  "the text video and keypoints, a list of texts or of {keypoint, category}, "
  "and may have category and question"
)
ALL = "all"  # the category of keypoints that have none
FIGURES = ("accuracy", "coverage", "precision")


class Reference(NamedTuple):
  """What is known of a video: facts, each of a category."""

  question: str
  keypoints: tuple[str, ...]
  categories: tuple[str, ...]


def read_references(path: str | pathlib.Path) -> dict[str, Reference]:
  """{video: reference} of a JSONL file; ValueError names every faulty line."""

  def read(row):
    defaults = {"category": ALL, "question": ours.TRAINING_QUESTION}
    category, question = relations.texts(defaults | row, *defaults)
    if not isinstance(row["keypoints"], list) or not row["keypoints"]:
      raise TypeError
    points = [_keypoint(point, category) for point in row["keypoints"]]
    return Reference(question, *zip(*points, strict=True))

  return relations.read_rows(path, read, NEEDS)


def _keypoint(point, category) -> tuple[str, ...]:
  """(words, category) of a text or of an object."""
  whole = {"keypoint": point} if isinstance(point, str) else point
  return tuple(
    relations.texts({"category": category} | whole, "keypoint", "category")
  )


def judge_captions(
  references: dict[str, Reference],
  captions: dict[str, str],
  prompts: judge_prompts.Prompts,
  ask: Callable[..., judge.Usage],
  *,
  relate_tokens: int,
) -> tuple[list[dict], judge.Usage]:
  """A row per video; nothing is asked of a blank caption, which tells none."""
  requests = (
    relations.request(
      video, captions[video], reference.keypoints, prompts, relate_tokens
    )
    for video, reference in references.items()
    if captions[video].strip()
  )
  answers, usage = judge.collect(ask, requests)
  rows = []
  for video, reference in references.items():
    blank = [relations.NEUTRAL] * len(reference.keypoints)
    answer = answers.get(video, judge.Answer(video, blank, None))
    rows.append(_row(video, reference, captions[video], answer))
  return rows, usage


def _row(video, reference, caption, answer) -> dict:
  points = relations.paired(reference.keypoints, answer.value)
  for point, category in zip(points, reference.categories, strict=True):
    point["category"] = category
  row = {"id": video, "video": video, "caption": caption}
  row |= {"failure": answer.missing, **_figures(answer.value or [])}
  return row | {"keypoints": points}


def _figures(told: list[str]) -> dict[str, float | None]:
  """Accuracy, coverage and precision of the relations of some keypoints."""
  right = relations.share(told, relations.ENTAILED)
  spoken = [relation for relation in told if relation != relations.NEUTRAL]
  return {
    "accuracy": right,
    "coverage": len(spoken) / len(told) if told else None,
    "precision": relations.share(spoken, relations.ENTAILED),
  }


def summarise(rows: list[dict]) -> dict:
  """Means over videos with standard errors (…_se), and those by category.

  In a category a video counts with its keypoints of that category. Videos of
  which the judgement failed are counted, not scored; a caption that speaks of
  no keypoint has no precision.
  """
  done = [row for row in rows if row["failure"] is None]
  by_category = {}
  for row in done:
    own = {}
    for point in row["keypoints"]:
      own.setdefault(point["category"], []).append(point["relation"])
    for name, told in own.items():
      by_category.setdefault(name, []).append(_figures(told))
  counts = {"judged": len(done), "failed": len(rows) - len(done)}
  parts = {name: _means(found) for name, found in by_category.items()}
  return {**_means(done), **counts, "categories": parts}


def _means(rows) -> dict:
  found = {}
  for name in FIGURES:
    values = [row[name] for row in rows]
    found[name], found[f"{name}_se"] = mean(values), standard_error(values)
  return found | {"videos": len(rows)}


def list_items(c, prompts) -> list[Item]:
  """One caption per video, by the question of its own row."""
  rows = read_references(c.data.references)
  return [
    Item(video, video, "", (rows[video].question,))
    for video in limited(rows, c.limit)
  ]


def score_captions(c, items, captions, prompts, ask):
  """Keypoints by a judge."""
  known = read_references(c.data.references)
  references = {item.video: known[item.video] for item in items}
  rows, usage = judge_captions(
    references, captions, prompts, ask, **c.judge_tokens
  )
  return rows, summarise(rows), usage


BENCHMARK = Benchmark(list_items, score_captions, one_file, "")
