"""The benchmarks: which captions they want, and how they score them.

A benchmark is a pair of functions of the config. `items(c, prompts)` lists
the captions to make; `score(c, items, captions, prompts, ask)` returns
(rows, summary, cost of the judge), None where nobody was asked.
"""

from collections.abc import Callable
from typing import NamedTuple

from synpo_jax.data import prompts as ours
from synpo_jax.evaluation import preference, shapes, vatex, vdc, vdd
from synpo_jax.evaluation.captions import Item


class Benchmark(NamedTuple):
  """How a benchmark lists its items and scores them, and on what data."""

  items: Callable
  score: Callable
  files: Callable  # config -> paths of what it reads
  judged: bool


def vdc_items(c, prompts) -> list[Item]:
  """One caption per video and category, videos in the files' order."""
  categories = tuple(c.data.categories)
  for category in categories:
    if category not in prompts.captions:
      raise ValueError(
        f"data.categories: {category!r} has no caption prompts; there are "
        f"those of {', '.join(prompts.captions)}"
      )
  questions = vdc.read_questions(c.data.questions, categories)
  return [
    Item(f"{category}/{video}", video, category, prompts.captions[category])
    for category in categories
    for video in _limited(questions[category], c.limit)
  ]


def vdc_score(c, items, captions, prompts, ask):
  """VDCscore by a judge."""
  questions = vdc.read_questions(c.data.questions, tuple(c.data.categories))
  captioned = [
    vdc.Captioned(
      item.category,
      item.video,
      captions[item.id],
      questions[item.category][item.video],
    )
    for item in items
  ]
  rows, usage = vdc.judge_captions(captioned, prompts, ask, **c.judge_tokens)
  return rows, vdc.summarise(rows), usage


def vdc_files(c) -> list[str]:
  """The questions of each category."""
  return [f"{c.data.questions}/{name}.jsonl" for name in c.data.categories]


def one_file(c) -> list[str]:
  """The references."""
  return [c.data.references]


def vdd_items(c, prompts) -> list[Item]:
  """One caption per video, by the question of its own row."""
  rows = {row.video: row for row in vdd.read_references(c.data.references)}
  return [
    Item(video, video, "", (rows[video].question,))
    for video in _limited(rows, c.limit)
  ]


def vdd_score(c, items, captions, prompts, ask):
  """Detail orientation by a judge."""
  rows = {row.video: row for row in vdd.read_references(c.data.references)}
  references = [rows[item.video] for item in items]
  made, usage = vdd.judge_captions(
    references, captions, prompts, ask, **c.judge_tokens
  )
  return made, vdd.summarise(made), usage


def vatex_items(c, prompts) -> list[Item]:
  """One short caption per video."""
  references = vatex.read_references(c.data.references)
  return [
    Item(video, video, "", tuple(c.data.prompts))
    for video in _limited(references, c.limit)
  ]


def vatex_score(c, items, captions, prompts, ask):
  """CIDEr-D and its kin; nobody is asked."""
  references = vatex.read_references(c.data.references)
  rows, summary = vatex.score(references, captions)
  return rows, summary, None


def shapes_items(c, prompts) -> list[Item]:
  """One detailed caption per clip of the synthetic world."""
  scenes = shapes.read_scenes(c.data.scenes, c.data.only)
  return [
    Item(video, video, "", (ours.TRAINING_QUESTION,))
    for video in _limited(scenes, c.limit)
  ]


def shapes_score(c, items, captions, prompts, ask):
  """Exact marks from the scene graphs; nobody is asked."""
  scenes = shapes.read_scenes(c.data.scenes, c.data.only)
  rows, summary = shapes.score(scenes, captions)
  return rows, summary, None


def shapes_files(c) -> list[str]:
  """Scene graphs, and which of them are scored."""
  return [path for path in (c.data.scenes, c.data.only) if path]


def preference_items(c, prompts) -> list[Item]:
  """The instructions of an AlpacaEval outputs file: the other side's."""
  outputs = preference.read_outputs(c.data.reference_outputs)
  return [
    Item(question, question, "", (question,))
    for question in _limited(outputs, c.limit)
  ]


def preference_score(c, items, captions, prompts, ask):
  """Wins, ties and losses against the reference outputs, in both orders."""
  theirs = preference.read_outputs(c.data.reference_outputs)
  theirs = {item.id: theirs[item.id] for item in items}
  duels = preference.duels(captions, theirs)
  rows, usage = preference.judge_duels(duels, prompts, ask, **c.judge_tokens)
  return rows, preference.summarise(rows), usage


def preference_files(c) -> list[str]:
  """The other side's answers."""
  return [c.data.reference_outputs]


def _limited(names, limit: int) -> list[str]:
  return list(names)[: limit or None]


BENCHMARKS = {
  "vdc": Benchmark(vdc_items, vdc_score, vdc_files, True),
  "vdd": Benchmark(vdd_items, vdd_score, one_file, True),
  "vatex": Benchmark(vatex_items, vatex_score, one_file, False),
  "shapes": Benchmark(shapes_items, shapes_score, shapes_files, False),
  "preference": Benchmark(
    preference_items, preference_score, preference_files, True
  ),
}
