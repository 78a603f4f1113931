"""What captions of clips are worth, in figures with their errors.

docs/scores.md defines every score, its range and its noise floor.
"""

import math
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np

from synpo_jax.world import marks, quiz
from synpo_jax.world.fluency import fluency
from synpo_jax.world.reading import read_facts
from synpo_jax.world.scene import Facts, Scene

KEYS = ("qa_accuracy", "f1", "precision", "recall", "hallucination")
KEYS += ("omissions", "words", "fluency")
Row = dict[str, float]


def clip_id(video: str) -> str:
  """The id of a clip's scene: the stem of its file, or the id itself."""
  return pathlib.PurePosixPath(video).name.removesuffix(".mp4")


def score(caption: str, scene: Scene) -> Row:
  """Every score of `KEYS` of one caption."""
  told = read_facts(caption)
  answered = [right for _, right in _answers(told, scene)]
  return {
    "qa_accuracy": sum(answered) / len(answered),
    **_of_claims(marks.of_facts(told, scene.facts)),
    "words": float(len(caption.split())),
    "fluency": fluency(caption)[0],
  }


def _of_claims(found: list[marks.Mark]) -> Row:
  made = [m for m in found if m.verdict != marks.MISSING]
  true = [m for m in found if m.needed]
  right = sum(m.verdict == marks.RIGHT for m in made)
  told = sum(m.verdict == marks.RIGHT for m in true)
  precision = right / len(made) if made else 0.0
  recall = told / len(true)
  both = precision + recall
  return {
    "f1": 2 * precision * recall / both if both else 0.0,
    "precision": precision,
    "recall": recall,
    "hallucination": 1 - precision if made else 0.0,
    "omissions": sum(m.verdict == marks.MISSING for m in true) / len(true),
  }


def _answers(told: Facts, scene: Scene) -> list[tuple[str, bool]]:
  """(category, whether it is answered rightly) of each question."""
  return [
    (question.category, quiz.ask(question.probe, told) == question.answer)
    for question in quiz.questions(scene)
  ]


def categories(caption: str, scene: Scene) -> dict[str, float]:
  """Category -> share of its questions that the caption answers rightly."""
  answered = _answers(read_facts(caption), scene)
  return {
    name: float(np.mean([right for kind, right in answered if kind == name]))
    for name in dict.fromkeys(kind for kind, _ in answered)
  }


def rows(
  captions: Mapping[str, str], scenes: Mapping[str, Scene]
) -> dict[str, Row]:
  """Scores of each caption, by the caption's video.

  Args:
    captions: by clip id or file of the clip.
    scenes: by clip id.

  Raises ValueError for a clip without a scene.
  """
  found = {}
  for video, caption in captions.items():
    name = clip_id(video)
    if name not in scenes:
      raise ValueError(f"{video}: no scene of that clip, so no score")
    found[video] = score(caption, scenes[name])
  return found


def mean_and_error(values: Iterable[float]) -> tuple[float, float | None]:
  """Mean and its standard error; no error for a single value."""
  values = list(values)
  mean = float(np.mean(values))
  if len(values) < 2:
    return mean, None
  return mean, float(np.std(values, ddof=1) / math.sqrt(len(values)))


def summary(rows: Mapping[str, Mapping]) -> dict[str, float | None]:
  """{key, key_se}: mean over clips of each score, and its standard error.

  rows: scores by video, perhaps beside other values.
  """
  return _with_errors({key: [r[key] for r in rows.values()] for key in KEYS})


def differences(
  before: Mapping[str, Row], after: Mapping[str, Row]
) -> dict[str, float | None]:
  """{key, key_se}: mean of after - before, clip by clip, and its error.

  Raises ValueError where the clips are not the same.
  """
  if odd := before.keys() ^ after.keys():
    raise ValueError(f"{min(odd)}: a clip of only one of the two lists")
  return _with_errors(
    {
      key: [after[video][key] - row[key] for video, row in before.items()]
      for key in KEYS
    }
  )


def _with_errors(values: Mapping[str, list[float]]) -> dict:
  if not all(values.values()):
    raise ValueError("no caption to score")
  found = {}
  for key, numbers in values.items():
    found[key], found[f"{key}_se"] = mean_and_error(numbers)
  return found


def by_kind(
  captions: Mapping[str, str], scenes: Mapping[str, Scene]
) -> dict[str, dict[str, float]]:
  """Kind of claim -> shares of true claims right, wrong and left out.

  The three sum to 1; `claims` is how many there are. Kinds are those of
  `marks.KINDS` that the clips have; `direction` is that of moves and turns.
  """
  found: dict[str, list[str]] = {kind: [] for kind in marks.KINDS}
  for video, caption in captions.items():
    truth = scenes[clip_id(video)].facts
    for mark in marks.of_caption(caption, truth):
      if mark.needed:
        found[mark.kind].append(mark.verdict)
  return {
    kind: {
      name: verdicts.count(name) / len(verdicts)
      for name in (marks.RIGHT, marks.WRONG, marks.MISSING)
    }
    | {"claims": len(verdicts)}
    for kind, verdicts in found.items()
    if verdicts
  }
