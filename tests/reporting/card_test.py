"""The card beside an export says what the run was, and nothing else."""

import json

from synpo_jax.reporting import card
from synpo_jax.training import metrics


def written(tmp_path, workdir, form, sees):
  card.write(tmp_path, workdir, form, sees, "me/model")
  return (tmp_path / "README.md").read_text()


def a_run(folder, *, at):
  """A workdir of a run, of three updates, whose checkpoint is after `at`."""
  (folder / "checkpoints" / str(at)).mkdir(parents=True)
  config = {
    "seed": 0,
    "data": {"pairs": "/home/me/rows.jsonl", "cache": ["gs://mine/cache"]},
    "model": {"checkpoint": "me/base@abc"},
    "lora": {"rank": 4, "alpha": 8.0},
    "loss": {"name": "synpo", "coefficients": {"alpha": 30.0, "beta": 0.2}},
  }
  (folder / "config.json").write_text(json.dumps(config))


def test_a_card_has_data_metrics_recipe_and_base(tmp_path):
  run = tmp_path / "run"
  a_run(run, at=2)
  counts = {"rows read": 9, "dropped: score gap too small": 0}
  counts |= {"videos quarantined (see /home/me/quarantine.jsonl)": 2}
  (run / "data.json").write_text(json.dumps({"data.pairs": counts}))
  for step in (1, 2, 3):
    metrics.append(run / "metrics.jsonl", {"step": step, "loss": step / 8})
  metrics.append(run / "eval.jsonl", {"step": 2, "heldout/loss": float("nan")})
  text = written(tmp_path, run, "peft", True)
  assert text.startswith("---\nlibrary_name: peft\n")
  assert "\npipeline_tag: video-text-to-text\nbase_model: me/base\n" in text
  assert "`me/base@abc`" in text and "(alpha 30, beta 0.2)" in text
  assert "| data.pairs | rows read | 9 |" in text and "score gap" not in text
  assert "| loss | 2 | 0.25 |" in text  # not that of a later update
  assert "| heldout/loss | 2 | not finite |" in text
  assert "--config.model.adapter=me/model" in text
  assert "| data.pairs | videos quarantined | 2 |" in text
  assert '"pairs": "rows.jsonl"' in text
  assert "/home" not in text and "gs://" not in text
  assert "jax " in text and '"seed": 0' in text


def test_the_card_of_the_best_state_has_its_metrics(tmp_path):
  """best/ has no rows of its own."""
  run = tmp_path / "run"
  a_run(run, at=3)
  a_run(run / "best", at=1)
  for step in (1, 2):
    row = {"step": step, "heldout/loss": step / 4}
    metrics.append(run / "eval.jsonl", row)
  text = written(tmp_path, run / "best", "merged", False)
  assert "after update 1." in text and "| heldout/loss | 1 | 0.25 |" in text
  assert 'AutoModelForCausalLM.from_pretrained("me/model")' in text
