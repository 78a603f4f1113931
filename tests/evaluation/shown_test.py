"""What the evaluation command prints of its scores."""

import io

import pytest
from rich import console

from synpo_jax import evaluate


def shown(benchmark, scores, **recipe):
  out = io.StringIO()
  results = dict(benchmark=benchmark, scores=scores, recipe_hash="ab12")
  evaluate.show(results | {"recipe": recipe}, console.Console(file=out))
  return out.getvalue()


def test_categories_are_rows_of_one_table():
  names = ("camera", "short", "background", "main_object", "detailed")
  part = dict(accuracy=0.25, score=1.5, videos=3, failed=None)
  text = shown(
    "vdc",
    {"accuracy": 0.5, "categories": {name: part for name in names}},
    judge=dict(model="llama", prompts="ours"),
  )
  rows = [line.split() for line in text.splitlines() if "0.2500" in line]
  assert [row[1] for row in rows] == list(names)
  assert rows[0][3::2] == ["0.2500", "1.5000", "3", "-"]
  assert "0.5000" in text and "judge: llama, prompts: ours; recipe ab12" in text


@pytest.mark.parametrize(
  "benchmark, told",
  (
    ("vatex", "no judge, words shared with the references; recipe ab12"),
    ("shapes", "no judge, exact marks from scene graphs; recipe ab12"),
  ),
)
def test_what_is_measured_without_a_judge_is_said(benchmark, told):
  text = shown(benchmark, {"score": 1.0, "categories": {"camera": 0.25}})
  assert told in text and "exact" not in text.replace("exact marks", "")
  assert "camera" in text and "0.2500" in text
