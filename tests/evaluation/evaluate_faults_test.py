"""Bad rows of the benchmarks' files are named, in a line each."""

import json

import pytest

from configs import eval_preference, eval_shapes, eval_vdc, eval_vdd
from synpo_jax import evaluate
from synpo_jax.evaluation import captions, preference, vatex, vdc, vdd
from synpo_jax.evaluation.benchmarks import BENCHMARKS
from synpo_jax.evaluation.items import Item
from synpo_jax.runtime import journal
from synpo_jax.training import metrics


def test_categories_that_nobody_knows_are_named(tmp_path):
  question = {"question": "What colour?", "answer": "red", "category": "x"}
  journal.rewrite(tmp_path / "camera.jsonl", [{"v1": [question]}])
  row = {"video": "v1", "caption": "Red.", "category": "Camera"}
  journal.rewrite(tmp_path / "predictions.jsonl", [row])
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


ODD = "red\u2028 ball\u0085 in\x1c view"  # where str.splitlines breaks, too


def test_lines_end_at_line_feeds_alone(tmp_path):
  def write(name, *rows):
    path = tmp_path / name
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\n\n")
    return path

  rows = [{"video": v, "caption": ODD, "category": None} for v in "ab"]
  items = [Item(v, v, "", ("?",)) for v in "ab"]
  path = write("predictions.jsonl", *rows)
  read = captions.read_predictions(path, items, only_predicted=False)
  assert [row["caption"] for row in read.values()] == [ODD, ODD]
  write("camera.jsonl", {"a": [{"question": ODD, "answer": "x"}]}, {"b": []})
  assert vdc.read_questions(tmp_path, ("camera",))["camera"]["a"][0][0] == ODD
  path = write("vdd", {"video": "a", "question": ODD, "answer": "x"})
  assert vdd.read_references(path)[0].question == ODD
  for rows in ([{"video": "a", "references": [ODD]}], [[]]):
    path = write("vatex", *rows)
    assert vatex.read_references(path, "en") == (
      {"a": [ODD]} if rows[0] else {}
    )
  path = write("importance.jsonl", {"token": ODD}, {"token": "x"})
  path.write_bytes(path.read_bytes()[3:])
  assert len(metrics.read_rows(path)) == 2
  path.write_bytes(b'{"video": "a", "caption": "\xff"}')
  with pytest.raises(ValueError, match="line 1: not UTF-8"):
    captions.read_predictions(path, items, only_predicted=False)
  path.write_text('{"video": "a", "caption": "x", "category": ["camera"]}')
  with pytest.raises(ValueError, match="line 1: needs a video and a caption"):
    captions.read_predictions(path, items, only_predicted=False)


def test_outputs_that_are_missing_are_named_and_counted(tmp_path):
  for name, asked in (("ours", "a"), ("theirs", "ab")):
    rows = [{"instruction": q, "output": "x"} for q in asked]
    (tmp_path / f"{name}.json").write_text(json.dumps(rows))
  c = eval_preference.get_config()
  c.judge.model, c.data.reference_outputs = "m", str(tmp_path / "theirs.json")
  c.predictions = str(tmp_path / "ours.json")
  with pytest.raises(ValueError, match="nothing for 1 of 2 .* as 'b'"):
    evaluate.run(c, tmp_path / "run")
  items = [Item(q, q, "", (q,)) for q in "ab"]
  found = preference.read_predictions(c.predictions, items, only_predicted=True)
  assert list(found) == ["a"]


def test_captions_are_found_by_their_files_too(tmp_path):
  """As `synpo_jax.caption` writes them."""
  path = tmp_path / "captions.jsonl"
  rows = [{"id": "x", "video": v, "caption": v} for v in ("in/a.MP4", "b.c")]
  journal.rewrite(path, rows)
  items = [Item(v, v, "", ("?",)) for v in ("a", "b.c")]
  read = captions.read_predictions(path, items, only_predicted=False)
  assert [row["caption"] for row in read.values()] == ["in/a.MP4", "b.c"]
  journal.rewrite(path, rows + [{"video": "a.mov", "caption": "x"}])
  with pytest.raises(ValueError, match="2 files are called a"):
    captions.read_predictions(path, items, only_predicted=True)


def vdd_config(folder, *videos):
  rows = [{"video": v, "question": "?", "answer": "x"} for v in videos]
  journal.rewrite(folder / "vdd.jsonl", rows)
  c = eval_vdd.get_config()
  c.judge.model, c.data.references = "m", str(folder / "vdd.jsonl")
  c.predictions = str(folder / "predictions.jsonl")
  return c


def test_a_command_that_failed_early_may_be_mended(tmp_path):
  c = vdd_config(tmp_path, "v1")
  for caption in ({}, {"caption": "x", "video": "v2"}):
    journal.rewrite(tmp_path / "predictions.jsonl", [{"video": "v1"} | caption])
    with pytest.raises(ValueError, match=r"needs a|nothing for 1 of 1"):
      evaluate.run(c, tmp_path / "run")
  (tmp_path / "run" / "judge.jsonl").write_text("{}\n")  # now it is begun
  c.seed = 1
  with pytest.raises(ValueError, match="recipe .seed: 0 there, 1 now"):
    evaluate.run(c, tmp_path / "run")


def test_counts_that_make_no_sense_are_refused(tmp_path):
  journal.rewrite(
    tmp_path / "predictions.jsonl", [{"video": "v", "caption": "x"}]
  )
  c = vdd_config(tmp_path, "v")
  c.limit = -1
  with pytest.raises(ValueError, match="limit=-1: .*, 0 for all"):
    evaluate.run(c, tmp_path / "run")
  with pytest.raises(ValueError, match="vdd.jsonl: nothing to score"):
    evaluate.run(vdd_config(tmp_path), tmp_path / "run")


def test_what_else_lies_in_a_run_does_not_change_its_recipe(tmp_path):
  run = tmp_path / "run"
  (run / "checkpoints" / "3").mkdir(parents=True)
  (run / "checkpoints" / "3" / "weights").write_text("1")
  (run / "config.json").write_text('{"model": {"checkpoint": ""}}')
  (tmp_path / "scenes").write_text("")
  c = eval_shapes.get_config()
  c.data.update(scenes=str(tmp_path / "scenes"), only="")
  c.model.update(checkpoint="", adapter=str(run))
  recipes = []
  for name in ("report.html", "checkpoints/3/weights"):
    recipes.append(evaluate.make_recipe(c, BENCHMARKS["shapes"], None))
    (run / name).write_text("2")
  assert recipes[0] == recipes[1]
  assert recipes[0] != evaluate.make_recipe(c, BENCHMARKS["shapes"], None)
