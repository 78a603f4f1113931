"""METEOR 1.5, through the published Java program when it can be had.

There is no faithful METEOR without its paraphrase tables, so none is
imitated here: either pycocoevalcap and Java are installed and the real one
runs, or the score is absent and the reason is given.
"""

import importlib.util
import shutil

Tokens = list[str]


def missing() -> str | None:
  """Why METEOR cannot be computed here, or None when it can."""
  if importlib.util.find_spec("pycocoevalcap") is None:
    return "pycocoevalcap is not installed (requirements-eval.txt has it)"
  if shutil.which("java") is None:
    return "java is not installed"
  return None


def meteor(
  predictions: list[Tokens], references: list[list[Tokens]]
) -> tuple[float, list[float]]:
  """METEOR over the corpus and per video; call `missing` first."""
  from pycocoevalcap.meteor.meteor import Meteor

  rows = {i: [" ".join(p)] for i, p in enumerate(predictions)}
  gold = {i: [" ".join(r) for r in refs] for i, refs in enumerate(references)}
  score, scores = Meteor().compute_score(gold, rows)
  return float(score), [float(s) for s in scores]
