"""VDC: how many questions about a video its caption answers (2410.03051).

For every question a judge first answers from the caption alone, then says
whether that answer agrees with the key: yes or no, and 0 to 5. A video's
accuracy is its share of yes, its score the mean; a category is the plain mean
over its videos, VDCscore the mean over categories. A judgement that failed is
neither yes nor no: it is counted, and beside every accuracy stands what it
would be if all failures were wrong.
"""

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from synpo_jax.endpoints import paid
from synpo_jax.evaluation import judge_prompts
from synpo_jax.evaluation import verdicts as replies
from synpo_jax.evaluation.items import Benchmark, Item, limited, mean
from synpo_jax.judging import judge
from synpo_jax.runtime import buckets
from synpo_jax.runtime.jsonl import lines
from synpo_jax.runtime.terminal import together

CATEGORIES = ("camera", "short", "background", "main_object", "detailed")


class Question(NamedTuple):
  """A question of the published set; `kind` is its free-form tag."""

  question: str
  gold: str
  kind: str


class Captioned(NamedTuple):
  """A caption to be judged by its video's questions of one category."""

  category: str
  video: str
  caption: str
  questions: list[Question]


def read_questions(
  folder: str | pathlib.Path, categories: tuple[str, ...] = CATEGORIES
) -> dict[str, dict[str, list[Question]]]:
  """{category: {video: questions}} of `folder`/{category}.jsonl.

  A line is {video id: [{"question", "answer", "category"}, …]}, as published.
  Questions of an id that comes twice (four do) are joined. Raises ValueError
  with every faulty line of a file.
  """
  return {c: _read(buckets.at(folder) / f"{c}.jsonl") for c in categories}


def _read(path):
  if not path.exists():
    raise FileNotFoundError(
      f"{path} not found: data.questions has the QA files"
    )
  videos, faults = {}, []
  for number, line in lines(path):
    try:
      for video, rows in _line(line).items():
        videos.setdefault(video, []).extend(rows)
    except ValueError as error:
      faults.append(f"{path} line {number}: {error}")
  if faults:
    raise ValueError(together(path, faults))
  return videos


def _line(line) -> dict[str, list[Question]]:
  """Questions by video of one line; raises ValueError naming the fault."""
  try:
    by_video = json.loads(line)
  except ValueError:
    raise ValueError("not JSON") from None
  if not isinstance(by_video, dict):
    raise ValueError("not {video: [question, …]}")
  videos = {}
  for video, rows in by_video.items():
    if not isinstance(rows, list):
      raise ValueError(f"video {video!r} has no list of questions")
    videos[video] = [
      _question(row, f"video {video!r}, question {index}")
      for index, row in enumerate(rows, 1)
    ]
  return videos


def _question(row, where) -> Question:
  """The answer may be a number, as some are."""
  if not isinstance(row, dict):
    raise ValueError(f"{where} is not an object")
  for name, kinds in (("question", str), ("answer", str | int | float)):
    if name not in row or not isinstance(row[name], kinds):
      raise ValueError(f"{where} has no text in {name!r}")
  kind = row["category"] if "category" in row else ""
  return Question(row["question"], str(row["answer"]), str(kind))


def judge_captions(
  captioned: list[Captioned],
  prompts: judge_prompts.Prompts,
  ask: Callable[..., judge.Usage],
  *,
  answer_tokens: int,
  compare_tokens: int,
) -> tuple[list[dict], judge.Usage]:
  """One row per caption, with a verdict for each of its questions.

  `ask(requests, on_answer)` is judge.ask with its settings. What was asked
  before comes from its cache, so a run that was killed just runs again.
  """
  asked = _answer_requests(captioned, prompts, answer_tokens)
  answers, first = judge.collect(ask, asked)
  compared = _compare_requests(captioned, answers, prompts, compare_tokens)
  verdicts, second = judge.collect(ask, compared)
  rows = [_row(item, answers, verdicts) for item in captioned]
  return rows, paid.together(first, second)


def _numbered(captioned) -> Iterator[tuple[str, Captioned, Question]]:
  """Every question that can be judged, with an id of its own."""
  for item in captioned:
    for index, question in enumerate(item.questions):
      if question.question.strip() and question.gold.strip():
        yield f"{item.category}/{item.video}/{index}", item, question


def _answer_requests(captioned, prompts, max_tokens):
  for key, item, question in _numbered(captioned):
    asked = question.question, item.caption
    yield answer_request(key, *asked, prompts, max_tokens)


def answer_request(
  key: str,
  question: str,
  caption: str,
  prompts: judge_prompts.Prompts,
  max_tokens: int,
) -> judge.Request:
  """The first call: the question, of the caption alone."""
  fields = dict(question=question, caption=caption)
  messages = judge_prompts.fill(prompts, "answer", **fields)
  version = f"vdc answer {prompts.version}"
  return judge.Request(key, messages, replies.text, None, max_tokens, version)


def _compare_requests(captioned, answers, prompts, max_tokens):
  for key, _, question in _numbered(captioned):
    if not answers[key].missing:
      said = question.question, question.gold, answers[key].value
      yield compare_request(key, *said, prompts, max_tokens)


def compare_request(
  key: str,
  question: str,
  gold: str,
  answer: str,
  prompts: judge_prompts.Prompts,
  max_tokens: int,
) -> judge.Request:
  """The second call: the answer beside the key, without the caption."""
  fields = dict(question=question, gold=gold, answer=answer)
  messages = judge_prompts.fill(prompts, "compare", **fields)
  version = f"vdc compare {prompts.version}"
  read = replies.verdict, replies.VERDICT_SCHEMA
  return judge.Request(key, messages, *read, max_tokens, version)


def _row(item, answers, verdicts) -> dict:
  """The item with its verdicts, and its means over those that came."""
  judged = []
  for index, question in enumerate(item.questions):
    key = f"{item.category}/{item.video}/{index}"
    row = question._asdict() | dict(answer=None, correct=None, score=None)
    if key not in answers:
      judged.append(row | {"failure": "the published question is empty"})
      continue
    answer = answers[key]
    last = answer if answer.missing else verdicts[key]
    row |= {"answer": answer.value, "failure": last.missing}
    if not last.missing:
      row |= {"correct": last.value.correct, "score": last.value.score}
    judged.append(row)
  return {
    "id": f"{item.category}/{item.video}",
    "category": item.category,
    "video": item.video,
    "caption": item.caption,
    **_means(judged),
    "questions": judged,
  }


def _means(judged) -> dict:
  done = [row for row in judged if row["correct"] is not None]
  yes = sum(row["correct"] for row in done)
  return {
    "accuracy": yes / len(done) if done else None,
    "score": sum(r["score"] for r in done) / len(done) if done else None,
    "accuracy_if_failures_are_wrong": yes / len(judged) if judged else None,
    "judged": len(done),
    "failed": len(judged) - len(done),
  }


def summarise(rows: list[dict]) -> dict:
  """VDCscore and its parts; accuracies as shares of one.

  A video of which nothing could be judged has no accuracy and is counted in
  `videos_without_judgement`.
  """
  by_category = {}
  for category in dict.fromkeys(row["category"] for row in rows):
    own = [row for row in rows if row["category"] == category]
    by_category[category] = _category(own)
  total = {"judged": 0, "failed": 0, "videos_without_judgement": 0}
  for part in by_category.values():
    total = {name: total[name] + part[name] for name in total}
  means = {
    name: mean([part[name] for part in by_category.values()])
    for name in ("accuracy", "score", "accuracy_if_failures_are_wrong")
  }
  return {**means, **total, "categories": by_category}


def _category(rows) -> dict:
  names = ("accuracy", "score", "accuracy_if_failures_are_wrong")
  return {
    **{name: mean([row[name] for row in rows]) for name in names},
    "videos": len(rows),
    "videos_without_judgement": sum(not row["judged"] for row in rows),
    "judged": sum(row["judged"] for row in rows),
    "failed": sum(row["failed"] for row in rows),
  }


def list_items(c, prompts) -> list[Item]:
  """One caption per video and category, videos in the files' order."""
  categories = tuple(c.data.categories)
  for category in categories:
    if category not in prompts.captions:
      raise ValueError(
        f"data.categories: {category!r} has no caption prompts; there are "
        f"those of {', '.join(prompts.captions)}"
      )
  questions = read_questions(c.data.questions, categories)
  return [
    Item(f"{category}/{video}", video, category, prompts.captions[category])
    for category in categories
    for video in limited(questions[category], c.limit)
  ]


def score_captions(c, items, captions, prompts, ask):
  """VDCscore by a judge."""
  questions = read_questions(c.data.questions, tuple(c.data.categories))
  captioned = [
    Captioned(
      item.category,
      item.video,
      captions[item.id],
      questions[item.category][item.video],
    )
    for item in items
  ]
  rows, usage = judge_captions(captioned, prompts, ask, **c.judge_tokens)
  return rows, summarise(rows), usage


def list_files(c) -> list[str]:
  """The questions of each category."""
  return [f"{c.data.questions}/{name}.jsonl" for name in c.data.categories]


BENCHMARK = Benchmark(list_items, score_captions, list_files, "")
