"""The evaluation command: benchmarks, resuming, recipes, refusals."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from configs import (
  eval_preference,
  eval_shapes,
  eval_vatex,
  eval_vdc,
  eval_vdd,
)
from synpo_jax import evaluate
from synpo_jax.evaluation import shapes as scoring
from synpo_jax.generation.shots import Captioned, Text
from synpo_jax.judging import trial
from synpo_jax.runtime import journal
from synpo_jax.world import rendering, staging, telling
from synpo_jax.world.scene import write_scenes
from tests.support import captioner_server, known_answers
from tests.support.judge_server import chat, serve
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
  """Two rendered clips of the synthetic world with their scene graphs."""
  folder = tmp_path_factory.mktemp("world")
  (folder / "clips").mkdir()
  scenes = [staging.sample(seed) for seed in (3, 4)]
  for scene in scenes:
    rendering.encode(folder / "clips" / f"{scene.video}.mp4", scene)
  write_scenes(str(folder / "scenes.jsonl"), scenes)
  return folder, scenes


class Writer:
  """A captioner that tells the truth, and counts; it may be killed."""

  def __init__(self, scenes, die_after=None):
    self.scenes = {scene.video: scene for scene in scenes}
    self.asked, self.opened, self.die_after = [], 0, die_after

  def open(self, placing, **model):
    self.opened += 1
    return self

  def prepare(self, picture, count):
    return picture

  def write(self, shots, ask):
    for shot in shots:
      assert shot.frames.dtype == np.uint8 and shot.frames.ndim == 4
      if self.die_after is not None and len(self.asked) == self.die_after:
        raise KeyboardInterrupt
      self.asked.append((shot.id, ask.question))
      video = shot.id.split("/")[-1]
      rng = np.random.default_rng(ask.seed)
      words = telling.tell(self.scenes[video].facts, rng)
      yield Captioned(shot.id, shot.part, [Text(words, words, 7)])


def shapes_config(folder):
  c = eval_shapes.get_config()
  c.root = str(folder / "clips")
  c.data.update(scenes=str(folder / "scenes.jsonl"), only="")
  c.model.checkpoint = ""
  return c


def test_true_captions_of_the_world_are_perfect(world, tmp_path):
  folder, scenes = world
  results = evaluate.run(
    shapes_config(folder), tmp_path / "run", Writer(scenes).open
  )
  scores = results["scores"]
  assert scores["qa_accuracy"] == 1.0 and scores["hallucination"] == 0.0
  assert set(scores["categories"].values()) == {1.0}
  rows = journal.read(tmp_path / "run" / "items.jsonl")
  assert set(rows) == {scene.video for scene in scenes}
  assert results["recipe"]["packages"]["jax"]
  held = json.loads((tmp_path / "run" / "results.json").read_text())
  assert held == json.loads(json.dumps(results))


def test_a_served_captioner_is_scored_and_named(world, tmp_path):
  c = shapes_config(world[0])
  picky = [True]

  def behave(n, body):
    return (400, {}, "") if n and picky[0] else captioner_server.honest(n, body)

  with serve(behave) as (url, log):
    c.model.endpoint, c.serving.model = url, "served"
    with pytest.raises(ValueError, match="1 of 2 captions are not there"):
      evaluate.run(c, tmp_path)
    picky[0] = False
    results = evaluate.run(c, tmp_path)
    assert evaluate.run(c, tmp_path) == results and len(log.bodies) == 3
  assert results["recipe"]["model"]["endpoint"] == url
  assert results["captioner_cost"]["calls"] == 2
  rows = journal.read(tmp_path / "captions.jsonl").values()
  assert {row["served"]["model"] for row in rows} == {"served"}
  c.captions.contrast_weight = 0.5
  with pytest.raises(ValueError, match="captions.contrast_weight=0.5: .*log"):
    evaluate.run(c, tmp_path)


def test_the_clips_to_score_are_those_of_a_file(world, tmp_path):
  folder, scenes = world
  c = shapes_config(folder)
  for name, text in {
    "ids.txt": scenes[1].video,
    "heldout.jsonl": f'{{"video": "clips/{scenes[1].video}.mp4"}}\n' * 2,
  }.items():
    c.data.only = str(tmp_path / name)
    (tmp_path / name).write_text(text)
    found = scoring.chosen_scenes(c.data.scenes, c.data.only)
    assert list(found) == [scenes[1].video]
  (tmp_path / "heldout.jsonl").write_text("")
  with pytest.raises(ValueError, match="names no video; .*data.only= takes"):
    evaluate.run(c, tmp_path / "run")


def test_false_captions_of_the_world_are_not(world, tmp_path):
  folder, scenes = world
  swapped = [
    dataclasses.replace(scenes[0], facts=scenes[1].facts),
    dataclasses.replace(scenes[1], facts=scenes[0].facts),
  ]
  c = shapes_config(folder)
  scores = evaluate.run(c, tmp_path, Writer(swapped).open)["scores"]
  assert scores["qa_accuracy"] < 0.7 and scores["hallucination"] > 0.3


def test_a_killed_evaluation_goes_on(world, tmp_path):
  folder, scenes = world
  first = Writer(scenes, die_after=1)
  with pytest.raises(KeyboardInterrupt):
    evaluate.run(shapes_config(folder), tmp_path, first.open)
  second = Writer(scenes)
  evaluate.run(shapes_config(folder), tmp_path, second.open)
  assert len(first.asked) == len(second.asked) == 1
  third = Writer(scenes)
  evaluate.run(shapes_config(folder), tmp_path, third.open)
  assert third.opened == 0
  other = shapes_config(folder)
  other.captions.temperature = 0.5
  with pytest.raises(ValueError, match="captions.temperature: 0.0 there"):
    evaluate.run(other, tmp_path, third.open)
  (tmp_path / "recipe.json").unlink()
  with pytest.raises(ValueError, match="was made with another recipe"):
    evaluate.run(other, tmp_path, third.open)


def answering(number, body):
  """A judge that finds what the caption says, word for word."""
  if known := known_answers.reply(body):
    return known
  text = body["messages"][-1]["content"]
  if "Key:" in text:
    right = "Key: red\nAnswer: red" in text
    return chat(json.dumps({"pred": "yes" if right else "no", "score": 4}))
  if "Reference description" in text:
    return chat("{'score': 3}")
  if "Answer 1:" in text:
    better = 1 if "Answer 1:\nours" in text else 2
    return chat(json.dumps({"better": better}))
  return chat("red" if "a red ball" in text else "not mentioned")


def with_server(c, url, **changes):
  c.judge.update(base_url=url, model="m", key="k", tries=2, first_wait=0.01)
  c.judge.update(longest_wait=1.0, timeout=5.0, concurrency=2, **changes)
  return c


def test_vdc_from_predictions(tmp_path):
  question = {"question": "What colour?", "answer": "red", "category": "x"}
  for category in ("camera", "short"):
    journal.rewrite(
      tmp_path / f"{category}.jsonl", [{"v1": [question]}, {"v2": [question]}]
    )
  journal.rewrite(
    tmp_path / "predictions.jsonl",
    [
      {"video_name": "v1", "pred": "There is a red ball."},
      {"video": "v2", "caption": "A dog.", "category": "short"},
      {"video": "v2", "caption": "It is a red ball.", "category": "camera"},
    ],
  )
  with serve(answering) as (url, log):
    c = with_server(eval_vdc.get_config(), url)
    c.data.update(questions=str(tmp_path), categories=("camera", "short"))
    c.predictions = str(tmp_path / "predictions.jsonl")
    results = evaluate.run(c, tmp_path / "run")
    again = evaluate.run(c, tmp_path / "run")
  scores = results["scores"]
  assert scores["accuracy"] == 0.75 and scores["score"] == 4.0
  assert scores["categories"]["camera"]["accuracy"] == 1.0
  made = results["recipe"]["judge"]
  assert (made["prompts"], made["model"]) == ("ours", "m")
  assert "key" not in made and made["prompts_version"]
  assert results["judge_server"] == url
  assert again["scores"] == scores
  assert again["judge_cost_of_this_run"]["calls"] == 0
  assert results["judge_cost_of_this_run"]["calls"] == len(log.bodies)
  for cost in (results["judge_cost"], again["judge_cost"]):  # of all runs
    assert cost["calls"] == len(log.bodies)
    assert cost["prompt_tokens"] == 10 * len(log.bodies)
  rows = journal.read(tmp_path / "run" / "items.jsonl")
  assert rows["short/v2"]["questions"][0]["answer"] == "not mentioned"
  assert rows["short/v2"]["recipe_hash"] == results["recipe_hash"]


def test_vdc_captions_come_with_a_prompt_of_their_category(world, tmp_path):
  folder, scenes = world
  question = {"question": "What colour?", "answer": "red", "category": "x"}
  for category in ("camera", "short"):
    lines = [{scene.video: [question]} for scene in scenes]
    journal.rewrite(tmp_path / f"{category}.jsonl", lines)
  writer = Writer(scenes)
  says_yes = lambda n, body: chat('{"pred": "yes", "score": 5}')  # noqa: E731
  with serve(says_yes) as (bad, _), serve(answering) as (url, _):
    c = with_server(eval_vdc.get_config(), bad)
    c.root, c.limit = str(folder / "clips"), 1
    c.data.update(questions=str(tmp_path), categories=("camera", "short"))
    with pytest.raises(trial.Failed, match="6 of 9 known items"):
      evaluate.run(c, tmp_path / "run", writer.open)
    assert writer.opened == 0  # nothing was captioned for it
    c.judge.update(base_url=url, model="another")
    evaluate.run(c, tmp_path / "run", writer.open)
  pools = evaluate.judge_prompts.OURS_ALONE.captions
  assert len(writer.asked) == 2
  for name, prompt in writer.asked:
    assert prompt in pools[name.split("/")[0]]
  rows = journal.read(tmp_path / "run" / "items.jsonl")
  assert {row["prompt"] for row in rows.values()} == {
    prompt for _, prompt in writer.asked
  }


def test_vdd_and_vatex_from_predictions(tmp_path):
  references = tmp_path / "vdd.jsonl"
  journal.rewrite(
    references,
    [{"video_name": v, "question": "Q", "answer": "R"} for v in ("v1", "v2")],
  )
  predictions = tmp_path / "predictions.jsonl"
  journal.rewrite(
    predictions,
    [{"video": "v1", "caption": "a dog"}, {"video": "v2", "caption": "a cat"}],
  )
  with serve(answering) as (url, _):
    c = with_server(eval_vdd.get_config(), url)
    c.data.references, c.predictions = str(references), str(predictions)
    assert evaluate.run(c, tmp_path / "vdd")["scores"]["score"] == 3.0
  rows = [
    {"videoID": "v1", "enCap": ["A dog.", "the dog runs"]},
    {"videoID": "v2", "enCap": ["A dog!"]},
  ]
  (tmp_path / "vatex.json").write_text(json.dumps(rows))
  c = eval_vatex.get_config()
  c.data.references = str(tmp_path / "vatex.json")
  c.predictions = str(predictions)
  scores = evaluate.run(c, tmp_path / "vatex")["scores"]
  # Unigrams: 3 of 4 match. Longest common: 2 of 2 and 2 of 2; 1 of 2.
  assert scores["BLEU-1"] == pytest.approx(75.0)
  assert scores["ROUGE-L"] == pytest.approx(75.0)
  assert (scores["METEOR"] is None) == ("METEOR_missing" in scores)


def test_preference_from_outputs(tmp_path):
  for name in ("ours", "theirs"):
    rows = [{"instruction": q, "output": name} for q in ("q1", "q2")]
    (tmp_path / f"{name}.json").write_text(json.dumps(rows))
  with serve(answering) as (url, _):
    c = with_server(eval_preference.get_config(), url)
    c.data.reference_outputs = str(tmp_path / "theirs.json")
    c.predictions = str(tmp_path / "ours.json")
    scores = evaluate.run(c, tmp_path / "run")["scores"]
  assert scores["win_rate"] == 1.0 and scores["win"] == 2


def test_what_is_wrong_is_said_in_one_line(world, tmp_path):
  folder, scenes = world
  c = shapes_config(folder)
  c.predictions = str(tmp_path / "predictions.jsonl")
  journal.rewrite(tmp_path / "predictions.jsonl", [{"video": scenes[0].video}])
  with pytest.raises(ValueError, match="line 1: needs a video and a caption"):
    evaluate.run(c, tmp_path / "run")
  row = {"video": scenes[0].video, "caption": "A red circle."}
  journal.rewrite(tmp_path / "predictions.jsonl", [row])
  with pytest.raises(ValueError, match="nothing for 1 of 2 items"):
    evaluate.run(c, tmp_path / "run2")
  c.only_predicted = True
  assert evaluate.run(c, tmp_path / "run3")["items"] == 1
  c = shapes_config(folder)
  c.root = str(tmp_path)
  with pytest.raises(FileNotFoundError, match="no such video"):
    evaluate.run(c, tmp_path / "run4", Writer(scenes).open)


def test_the_command(world, tmp_path):
  folder, scenes = world
  rows = [{"video": scene.video, "caption": "x"} for scene in scenes]
  journal.rewrite(tmp_path / "predictions.jsonl", rows)
  command = [
    sys.executable,
    "-m",
    "synpo_jax.evaluate",
    "--config=configs/eval_shapes.py",
    f"--workdir={tmp_path}/run",
    f"--config.data.scenes={folder}/scenes.jsonl",
    "--config.data.only=",
  ]
  root = ROOT

  def call(*flags):
    return subprocess.run(
      [*command, *flags], cwd=root, capture_output=True, text=True
    )

  predictions = f"--config.predictions={tmp_path}/predictions.jsonl"
  done = call(predictions)
  assert done.returncode == 0, done.stderr
  assert "qa_accuracy" in done.stdout and "recipe " in done.stdout
  failed = call(f"--config.predictions={tmp_path}/none.jsonl")
  assert failed.returncode == 1
  assert failed.stderr.strip().startswith("error: ")
  assert "Traceback" not in failed.stderr
