"""VDD: how detailed a description is beside a reference, 0 to 5 by a judge."""

import json
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from synpo_jax.evaluation import judge_prompts, verdicts
from synpo_jax.evaluation.items import Benchmark, Item, limited, one_file
from synpo_jax.judging import judge
from synpo_jax.runtime import buckets
from synpo_jax.runtime.jsonl import lines
from synpo_jax.runtime.terminal import together


class Reference(NamedTuple):
  """A video's task and the description to compare with."""

  video: str
  question: str
  gold: str


def read_references(path: str | pathlib.Path) -> list[Reference]:
  """Rows {"video_name" or "video", "question", "answer"} of a JSONL file.

  Raises ValueError with every faulty line.
  """
  path = buckets.at(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} not found: data.references names the rows")
  references, faults = {}, []
  for number, line in lines(path):
    try:
      row = json.loads(line)
      video = row["video_name"] if "video_name" in row else row["video"]
      reference = Reference(str(video), row["question"], row["answer"])
      if not all(isinstance(text, str) for text in reference):
        raise TypeError
    except (ValueError, KeyError, TypeError):
      faults.append(
        f"{path} line {number}: needs the texts video_name, question, answer"
      )
      continue
    video = reference.video
    if video in references:
      faults.append(f"{path} line {number}: video {video!r} is there twice")
    references[video] = reference
  if faults:
    raise ValueError(together(path, faults))
  return list(references.values())


def judge_captions(
  references: list[Reference],
  captions: dict[str, str],
  prompts: judge_prompts.Prompts,
  ask: Callable[..., judge.Usage],
  *,
  max_tokens: int,
) -> tuple[list[dict], judge.Usage]:
  """One row per video: its score, or why there is none."""
  requests = (
    request(row, captions[row.video], prompts, max_tokens) for row in references
  )
  answers, usage = judge.collect(ask, requests)
  rows = [
    {
      "id": reference.video,
      "video": reference.video,
      "caption": captions[reference.video],
      "score": answers[reference.video].value,
      "failure": answers[reference.video].missing,
    }
    for reference in references
  ]
  return rows, usage


def request(
  reference: Reference,
  caption: str,
  prompts: judge_prompts.Prompts,
  max_tokens: int,
) -> judge.Request:
  """The question about one caption; its id is the reference's video."""
  fields = reference._asdict() | {"caption": caption}
  video = fields.pop("video")
  messages = judge_prompts.fill(prompts, "detail", **fields)
  read = verdicts.score, verdicts.SCORE_SCHEMA
  version = f"vdd detail {prompts.version}"
  return judge.Request(video, messages, *read, max_tokens, version)


def summarise(rows: list[dict]) -> dict:
  """Mean score over the judged videos, and what failures would make of it."""
  scores = [row["score"] for row in rows if row["failure"] is None]
  return {
    "score": float(np.mean(scores)) if scores else None,
    "score_if_failures_are_zero": sum(scores) / len(rows) if rows else None,
    "judged": len(scores),
    "failed": len(rows) - len(scores),
  }


def list_items(c, prompts) -> list[Item]:
  """One caption per video, by the question of its own row."""
  rows = {row.video: row for row in read_references(c.data.references)}
  return [
    Item(video, video, "", (rows[video].question,))
    for video in limited(rows, c.limit)
  ]


def score_captions(c, items, captions, prompts, ask):
  """Detail orientation by a judge."""
  by_video = {row.video: row for row in read_references(c.data.references)}
  references = [by_video[item.video] for item in items]
  rows, usage = judge_captions(
    references, captions, prompts, ask, **c.judge_tokens
  )
  return rows, summarise(rows), usage


BENCHMARK = Benchmark(list_items, score_captions, one_file, "")
