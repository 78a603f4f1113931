"""Several judgements as one: means, their spread, and what they cost."""

import pytest

from configs import eval_vdd
from synpo_jax import evaluate
from synpo_jax.evaluation.repeats import Scored, combine
from synpo_jax.runtime import journal
from tests.support import known_answers
from tests.support.judge_server import chat, serve


def round_of(score, yes, failed):
  """A row with questions and a nested summary, as VDC has them."""
  rows = [{"id": "v", "score": score, "yes": yes, "tags": ["t"]}]
  categories = {"camera": {"score": score, "videos": 1}}
  summary = {"score": score, "failed": failed, "categories": categories}
  return Scored(rows, summary)


def test_scores_are_averaged_and_all_values_kept():
  rounds = [round_of(1.0, True, 0), round_of(None, False, 1)]
  rounds.append(round_of(4.0, True, 0))
  ((row,), summary) = combine(rounds)
  assert row == {
    "id": "v",
    "score": 2.5,
    "yes": True,
    "tags": ["t"],
    "repeats": {"score": [1.0, None, 4.0], "yes": [True, False, True]},
    "spread": {"score": pytest.approx(4.5**0.5)},
  }
  assert summary["categories"] == {"camera": {"score": 2.5, "videos": 1}}
  assert summary["failed"] == pytest.approx(1 / 3)
  spread = pytest.approx(4.5**0.5)
  both = {"score": spread, "categories.camera.score": spread}
  assert summary["spread"] == {"repeats": 3, **both}
  assert combine(rounds[:1]) is rounds[0]
  alone = combine([rounds[1], rounds[0]])  # one score has no spread
  assert alone.summary["score"] == 1.0
  assert alone.summary["spread"]["score"] is None


def test_an_evaluation_repeats_its_questions(tmp_path):
  """Seeds decide; what a repeat has answered is paid for once."""
  rows = [{"video": v, "question": "?", "answer": "x"} for v in ("a", "b")]
  journal.rewrite(tmp_path / "vdd.jsonl", rows)
  captions = [{"video": v, "caption": f"y {v}"} for v in ("a", "b")]
  journal.rewrite(tmp_path / "predictions.jsonl", captions)

  def behave(n, body):
    known = known_answers.reply(body)
    return known or chat(f'{{"score": {(2, 4, 3)[body.get("seed", 0)]}}}')

  with serve(behave) as (url, log):
    c = eval_vdd.get_config()
    c.data.references = str(tmp_path / "vdd.jsonl")
    c.predictions = str(tmp_path / "predictions.jsonl")
    c.judge.update(base_url=url, model="m", repeats=3)
    results = evaluate.run(c, tmp_path / "run")
    again = evaluate.run(c, tmp_path / "run")
    asked = len(log.bodies)
  assert asked == results["judge_cost"]["calls"] == 6 + 2 * 3
  assert results["judge_cost_of_this_run"]["calls"] == asked
  assert again["judge_cost_of_this_run"] == dict(
    calls=0, prompt_tokens=0, completion_tokens=0, cached=asked
  )
  assert results["scores"] == again["scores"]
  assert results["scores"]["score"] == 3.0
  assert results["scores"]["spread"]["score"] == 1.0
  assert results["judge_trial"]["failed"] == 0
  row = journal.read(tmp_path / "run" / "items.jsonl")["a"]
  assert row["repeats"] == {"score": [2.0, 4.0, 3.0]}
  assert (row["score"], row["spread"]) == (3.0, {"score": 1.0})
