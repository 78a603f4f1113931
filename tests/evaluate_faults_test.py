"""Bad rows of the benchmarks' files are named, in a line each."""

import json

import pytest

from configs import eval_vdc
from synpo_jax import evaluate
from synpo_jax.evaluation import preference, vatex, vdd


def write_lines(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_categories_that_nobody_knows_are_named(tmp_path):
  question = {"question": "What colour?", "answer": "red", "category": "x"}
  write_lines(tmp_path / "camera.jsonl", [{"v1": [question]}])
  row = {"video": "v1", "caption": "Red.", "category": "Camera"}
  write_lines(tmp_path / "predictions.jsonl", [row])
  c = eval_vdc.get_config()
  c.judge.model = "m"
  c.predictions = str(tmp_path / "predictions.jsonl")
  c.data.update(questions=str(tmp_path), categories=("camera",))
  with pytest.raises(ValueError, match="line 1: category 'Camera' is none of"):
    evaluate.run(c, tmp_path / "run")
  c.data.categories = ("camera", "sound")
  with pytest.raises(ValueError, match="categories: 'sound' has no caption"):
    evaluate.run(c, tmp_path / "run")


def test_rows_of_the_wrong_type_are_named(tmp_path):
  path = tmp_path / "rows"
  path.write_text(
    '[{"videoID": "a", "enCap": "x"}, {"videoID": 3, "enCap": 0}]'
  )
  with pytest.raises(ValueError, match="row 1: enCap .*\n.*row 2: videoID 3"):
    vatex.read_references(path)
  path.write_text('{"video": "a", "question": 3, "answer": "x"}')
  with pytest.raises(ValueError, match="line 1: needs the texts"):
    vdd.read_references(path)
  path.write_text('[{"instruction": "a", "output": null}]')
  with pytest.raises(ValueError, match="row 1: no text in 'output'"):
    preference.read_outputs(path)
