"""Agreement of two judges, against figures worked out elsewhere."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from synpo_jax import agreement as entry
from synpo_jax.evaluation import agreement
from synpo_jax.runtime import journal
from tests.support.paths import ROOT


def rows_of(scores, **more):
  return {
    str(i): {"id": str(i), "caption": "x", "score": score} | more
    for i, score in enumerate(scores)
  }


def measured(a, b, resamples=50):
  (pair,) = agreement.match(rows_of(a), rows_of(b)).values()
  return agreement.measure(pair, resamples=resamples, seed=0)


def test_kappa_is_that_of_the_textbook_and_of_scikit_learn():
  """Twenty times yes by both, 15 times no, 5 and 10 times one of each."""
  a = ["yes"] * 25 + ["no"] * 25
  b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
  found = measured(a, b)
  assert found["kappa"]["value"] == pytest.approx(0.4)
  assert found["equal"] == 0.7 and found["kappa_linear"] is None
  assert found["kappa"]["low"] < 0.4 < found["kappa"]["high"]
  rng = np.random.default_rng(0)
  a = rng.integers(6, size=60)
  b = np.clip(a + rng.integers(-1, 2, size=60), 0, 5)
  found = measured(a.tolist(), b.tolist())
  for name, weights in (
    ("kappa", None),
    ("kappa_linear", "linear"),
    ("kappa_quadratic", "quadratic"),
  ):
    wanted = cohen_kappa_score(a, b, weights=weights)
    assert found[name]["value"] == pytest.approx(wanted), name
  assert found["mean_a"] == a.mean() and found["n"] == found["videos"] == 60


def test_weights_are_distances_of_scores_and_not_of_their_ranks():
  """Nobody gives a 1 to 4: from 0 to 5 it is as far as ever."""
  pair = agreement.match(rows_of([0, 5, 5, 6]), rows_of([0, 5, 6, 6]))["score"]
  found = agreement.measure(pair, resamples=1, seed=0)
  seen = 1 / 4  # one of four is one away; then the mean distance of any two
  apart = np.mean([abs(x - y) for x in (0, 5, 5, 6) for y in (0, 5, 6, 6)])
  assert found["kappa_linear"]["value"] == pytest.approx(1 - seen / apart)


def test_rank_correlations_by_hand_and_without_variation():
  found = measured([1.0, 2.0, 3.0, 4.5], [1.0, 3.0, 2.0, 4.0])
  assert found["spearman"]["value"] == pytest.approx(0.8)
  assert found["kendall"]["value"] == pytest.approx(2 / 3)
  assert found["kappa"] is None  # means of repeats are no classes
  found = measured([3, 3, 3], [1, 2, 3])
  assert found["spearman"] is None and found["kappa"]["value"] == 0.0
  assert measured([3, 3], [3, 3])["kappa"] is None


def test_items_of_one_video_are_drawn_together():
  """Every verdict five times over: no interval is narrower for it."""
  a, b = [0, 1, 1, 0, 1, 0, 1, 1], [0, 1, 0, 0, 1, 1, 1, 1]

  def rows(verdicts, times):
    return {
      str(i): {"questions": [{"correct": bool(v)}] * times}
      for i, v in enumerate(verdicts)
    }

  once, often = (
    agreement.measure(
      agreement.match(rows(a, times), rows(b, times))["correct"],
      resamples=50,
      seed=0,
    )
    for times in (1, 5)
  )
  assert (once["n"], often["n"]) == (8, 40) and often["videos"] == 8
  assert once["kappa"] == pytest.approx(often["kappa"])
  assert once["mean_b"] == 5 / 8 and once["kendall"]["low"] is not None


def test_what_was_judged_is_found_in_every_kind_of_row():
  row = {"id": "v", "caption": "x"}
  kinds = {
    "vdc": row | {"score": 2.5, "questions": [{"correct": True, "score": 4.0}]},
    "keypoints": row
    | {"accuracy": 1.0, "keypoints": [{"relation": "neutral"}]},
    "events": row | {"precision": 0.5, "recall": None, "f1": None},
    "pairs": {"id": "v", "factuality": [5, None], "fluency": [1, 2]},
    "preference": row | {"outcome": "win"},
  }
  found = {
    kind: {
      name: list(p.a) for name, p in agreement.match(*[{"v": one}] * 2).items()
    }
    for kind, one in kinds.items()
  }
  assert found == {
    "vdc": {"correct": [1], "score": [4.0]},
    "keypoints": {"relation": ["neutral"]},
    "events": {"precision": [0.5]},
    "pairs": {"factuality": [5], "fluency": [1, 2]},
    "preference": {"outcome": ["win"]},
  }
  failed = {"v": row | {"outcome": "failed", "score": None}}
  with pytest.raises(ValueError, match="no judgement of the same item"):
    agreement.match(failed, failed)


def test_the_command_of_the_readme(tmp_path):
  typed = re.search(
    r"python -m synpo_jax\.agreement --a=(\S+) --b=(\S+)",
    (ROOT / "README.md").read_text("utf-8"),
  )
  for name, scores in zip(typed.groups(), ([1, 2, 3], [1, 3, 3]), strict=True):
    (tmp_path / name).mkdir(parents=True)
    rows = [*rows_of(scores).values(), {"id": name, "score": 1}]
    journal.rewrite(tmp_path / name / "items.jsonl", rows)
  done = subprocess.run(
    [sys.executable, *typed.group().split()[1:], "--json=out.json"],
    cwd=tmp_path,
    env={"PYTHONPATH": str(ROOT), "PATH": ""},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert "spearman" in done.stdout and "1 a, 1 b" in done.stdout
  held = json.loads((tmp_path / "out.json").read_text())
  assert held["figures"]["score"]["kendall"]["value"] == pytest.approx(
    0.8164966
  )
  assert (held["only_a"], held["only_b"]) == (1, 1)


def test_results_that_do_not_belong_together_are_refused(tmp_path):
  paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
  for path, caption in zip(paths, "xy", strict=True):
    row = {"id": "v", "caption": caption, "score": 1}
    journal.rewrite(path, [row])
  a, b = map(str, paths)
  with pytest.raises(ValueError, match="b.jsonl: v: .* different captions"):
    entry.run(a, b, 10)
  for name in ("one", "two"):
    (tmp_path / name).mkdir()
    row = {"id": "v", "factuality": [1, 2]}
    journal.rewrite(tmp_path / name / "judgements.jsonl", [row])
    row = {"id": "v", "captions": [name, "x"]}
    journal.rewrite(tmp_path / name / "candidates.jsonl", [row])
  with pytest.raises(ValueError, match="two: v: .* different captions"):
    entry.run(str(tmp_path / "one"), str(tmp_path / "two"), 10)
  with pytest.raises(FileNotFoundError, match="holds neither items.jsonl nor"):
    entry.run(a, str(tmp_path), 10)
  with pytest.raises(FileNotFoundError, match="none.jsonl not found"):
    entry.run(a, str(tmp_path / "none.jsonl"), 10)
