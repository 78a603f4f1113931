"""The best state by a metric, patience, and both after a kill."""

import gc
import json

import jax
import numpy as np
import pytest

from configs import vdc
from synpo_jax.models import captioner
from synpo_jax.runtime.workdir import is_run, newest
from synpo_jax.training import best, caches, captioning, job, loop, metrics
from synpo_jax.weights import adapters, config_reading
from tests.support import judge_server, known_answers, run_config


def rows_of(name, *values):
  return [{"step": 5 * n, name: v} for n, v in enumerate(values)]


@pytest.mark.parametrize(
  ("name", "values", "expected"),
  [
    ("heldout/cider_d", (1.0, 3.0, 2.0, 3.0), best.Standing(5, 3.0, 2)),
    ("heldout/loss", (1.0, 3.0, 0.5, 0.6), best.Standing(10, 0.5, 1)),
    ("heldout/detail", (None, 2.0, None, 1.0), best.Standing(5, 2.0, 1)),
    ("repetition", (float("nan"), 0.2), best.Standing(5, 0.2, 0)),
    ("text_logp", (None,), None),
  ],
)
def test_the_best_row_and_how_many_came_since(name, values, expected):
  assert best.standing(rows_of(name, *values), name) == expected


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"keep.patience": 2}, "keep.patience=2 waits for keep.best"),
    ({"keep.best": "cider"}, "keep.best=cider: no such best; nearest"),
    ({"keep.best": "heldout/loss"}, "every.evaluate updates, which is 0"),
    (
      {"keep.best": "heldout/detail", "every.evaluate": 1},
      "where captioning.references and captioning.judge are set",
    ),
  ],
)
def test_a_choice_that_nothing_makes_is_refused(changes, said):
  c = vdc.get_config()
  c.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=said):
    best.check(c)


def test_captions_are_scored_against_all_references():
  references = {"a": ["a dog runs", "the dog runs away"], "b": ["a red car"]}
  captions = {"b": "a red car", "a": "the dog runs away"}
  found = captioning.score(references, captions)
  assert found["heldout/rouge_l"] == pytest.approx(100)
  worse = captioning.score(references, captions | {"b": "a dog"})
  assert worse["heldout/rouge_l"] < 90
  assert worse["heldout/cider_d"] < found["heldout/cider_d"]


def test_a_judge_that_cannot_be_had_leaves_the_run_alone(tmp_path, capsys):
  settings = vdc.get_config().judge.to_dict()
  settings |= dict(base_url="http://127.0.0.1:9", model="m", tries=1)
  rows = {"a": ["a dog"]}, {"a": "a cat"}
  asked = tmp_path / "judge.jsonl", "What?", settings
  assert captioning.detail(*rows, *asked) is None
  assert "heldout/detail: " in capsys.readouterr().out


@pytest.mark.parametrize("right", [True, False])
def test_a_judge_is_tried_before_it_marks_a_run(tmp_path, capsys, right):
  """One that gives everything a 3 marks nothing."""

  def behave(n, body):
    known = right and known_answers.reply(body)
    return known or judge_server.chat(f'{{"score": {3 + body.get("seed", 0)}}}')

  with judge_server.serve(behave) as (url, log):
    settings = vdc.get_config().judge.to_dict()
    settings |= dict(base_url=url, model="m", repeats=2)
    rows = {"a": ["a dog"]}, {"a": "a cat"}
    asked = tmp_path / "judge.jsonl", "What?", settings
    assert captioning.detail(*rows, *asked) == (3.5 if right else None)
  assert len(log.bodies) == (8 if right else 6)
  told = "answers 4 of 6 known items wrongly"
  assert (told in capsys.readouterr().out) != right


def test_a_run_does_not_begin_with_a_judge_that_fails(tmp_path, monkeypatch):
  """Nor does it end for one that is away."""
  monkeypatch.setattr(captioning, "_videos", lambda *_: None)
  (tmp_path / "set.jsonl").write_text('{"video": "v", "references": ["x"]}\n')
  c = vdc.get_config()
  c.captioning.update(references=str(tmp_path / "set.jsonl"), judge=True)
  three = judge_server.chat('{"score": 3}')
  with judge_server.serve(lambda n, body: three) as (url, _):
    c.judge.update(base_url=url, model="m", tries=1)
    with pytest.raises(ValueError, match="answers 4 of 6 known items wrongly"):
      captioning.make(None, c, tmp_path)
  c.judge.base_url, c.judge.model = "http://127.0.0.1:9", "n"
  assert captioning.make(None, c, tmp_path)


def settings_of(folder):
  c = run_config.get_config(folder)
  c.mesh.data = -1
  c.data.batch_size = 8
  c.epochs = 4
  c.every.update(evaluate=1, checkpoint=100, reward_norms=0)
  c.heldout.update(captions=0, scenes="")
  c.captioning.max_new_tokens = 4
  return c


def run_once(c, workdir):
  ready = job.prepare(c, workdir)
  return loop.train(ready, c, workdir)


def of_tower(c) -> set:
  """Shapes of the tower's arrays that nothing else has."""
  sizes = config_reading.captioner_config(c.model.arch.to_dict())
  rest = captioner.shapes(captioner.make(sizes, None))["params"]
  return shapes(rest.pop("tower")) - shapes(rest)


def lying(own: set) -> int:
  """How many arrays of these shapes are on devices."""
  return sum(leaf.shape in own for leaf in jax.live_arrays())


def shapes(tree) -> set:
  return {leaf.shape for leaf in jax.tree.leaves(tree)}


class Killed(BaseException):
  """Stands for a kill at a bad moment."""


@pytest.mark.slow
def test_best_and_patience_are_the_same_after_a_kill(tmp_path, monkeypatch):
  """Killed between the checkpoint and the best of it; patience, too, goes on.

  What is measured is scripted by update, so that it is known. No array of the
  tower, whose features are cached, lies on a device meanwhile.
  """
  c = settings_of(tmp_path)
  c.keep.update(best="heldout/cider_d", patience=2)
  values = [1.0, 2.0, 5.0, 4.0, 5.0, 9.0]  # of updates 0, 1, …
  count, own = iter(()), of_tower(c)
  gc.collect()
  before = lying(own)
  assert own

  def measure(trained):
    assert lying(own) <= before
    return {"heldout/cider_d": next(count)}

  def scripted(ready, c, workdir):
    assert lying(own) > before  # features of other videos may be wanted
    return measure

  monkeypatch.setattr(captioning, "make", scripted)
  monkeypatch.setattr(best, "NEEDS", {})
  count = iter(values)
  whole = run_once(c, tmp_path / "whole")
  assert whole.early and int(whole.state.step) == 4  # two no better than 5.0
  kept = tmp_path / "whole" / "best"
  assert is_run(kept) and newest(kept).name == "2"
  save = best.Keeper.save

  def killed_at_2(self, step, *rest):
    if step == 2:
      raise Killed
    save(self, step, *rest)

  monkeypatch.setattr(best.Keeper, "save", killed_at_2)
  count = iter(values)
  with pytest.raises(Killed):
    run_once(c, tmp_path / "killed")
  assert newest(tmp_path / "killed" / "best").name == "1"
  monkeypatch.setattr(best.Keeper, "save", save)
  count = iter(values[3:])
  again = run_once(c, tmp_path / "killed")
  assert again.early and int(again.state.step) == 4
  for name in ("whole", "killed"):
    rows = metrics.read_rows(tmp_path / name / "eval.jsonl")
    assert [row["heldout/cider_d"] for row in rows] == values[:5]
  a, b = (
    adapters.read_run(tmp_path / n / "best").lora for n in ("whole", "killed")
  )
  jax.tree.map(np.testing.assert_array_equal, a, b)
  count = iter(())  # a third start has nothing to do
  assert run_once(c, tmp_path / "killed").early


@pytest.mark.slow
def test_a_captioning_set_is_captioned_and_a_lost_video_refused(tmp_path):
  c = settings_of(tmp_path)
  path = tmp_path / "refs.jsonl"
  workdir = tmp_path / "run"
  ready = job.prepare(c, workdir)
  c.captioning.references = str(path)
  names = sorted({pair.video for pair in ready.heldout.pairs})[:3]
  rows = [{"video": n, "references": ["a red circle", "a b"]} for n in names]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  measure = captioning.make(ready, c, workdir)
  caches.let_go(ready.tower)
  found = measure(ready.state.trained)
  assert found.keys() == {"heldout/cider_d", "heldout/rouge_l"}
  assert 0 <= found["heldout/rouge_l"] <= 100
  path.write_text(path.read_text() + '{"video": "no.mp4", "references": ["x"]}')
  with pytest.raises(ValueError, match="1 of 4 videos .* as no.mp4"):
    captioning.make(ready, c, workdir)
