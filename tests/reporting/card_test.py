"""The card beside an export says what the run was, and nothing else."""

import importlib.metadata
import json

import pytest

from configs import published
from synpo_jax.reporting import card
from synpo_jax.runtime import settings
from synpo_jax.training import metrics
from synpo_jax.weights.config_reading import captioner_config


def written(tmp_path, workdir, form, name):
  model = captioner_config(published.arch(name).to_dict())
  card.write(tmp_path, workdir, form, model, "me/model")
  return (tmp_path / "README.md").read_text()


def a_run(folder, *, at):
  """A workdir of a run, of three updates, whose checkpoint is after `at`."""
  (folder / "checkpoints" / str(at)).mkdir(parents=True)
  config = {
    "seed": 0,
    "data": {"pairs": "/home/me/rows.jsonl", "cache": ["gs://mine/cache"]},
    "model": {"checkpoint": "me/base@abc"},
    "lora": {"rank": 4, "alpha": 8.0},
    "loss": {"name": "orpo", "coefficients": {"lam": 0.25, "nll": "mean"}},
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
  text = written(tmp_path, run, "peft", "qwen2_5_vl_3b")
  assert text.startswith("---\nlibrary_name: peft\n")
  assert "\npipeline_tag: video-text-to-text\nbase_model: me/base\n" in text
  assert "`me/base@abc`" in text and "(lam 0.25, nll mean)" in text
  assert "| data.pairs | rows read | 9 |" in text and "score gap" not in text
  assert "| loss | 2 | 0.25 |" in text  # not that of a later update
  assert "| heldout/loss | 2 | not finite |" in text
  assert "--config.model.adapter=me/model" in text
  assert "| data.pairs | videos quarantined | 2 |" in text
  assert '"pairs": "rows.jsonl"' in text
  assert "/home" not in text and "gs://" not in text
  assert '"seed": 0' in text
  recipe = settings.digest(json.loads((run / "config.json").read_text()), 12)
  assert f"recipe `{recipe}`" in text
  for name in ("synpo_jax", "jax", "transformers", "peft"):
    assert f"{name} {importlib.metadata.version(name)}" in text


def test_the_card_of_the_best_state_has_its_metrics(tmp_path):
  """best/ has no rows of its own."""
  run = tmp_path / "run"
  a_run(run, at=3)
  a_run(run / "best", at=1)
  for step in (1, 2):
    row = {"step": step, "heldout/loss": step / 4}
    metrics.append(run / "eval.jsonl", row)
  text = written(tmp_path, run / "best", "merged", "llama_3_2_1b")
  assert "after update 1." in text and "| heldout/loss | 1 | 0.25 |" in text
  assert 'AutoModelForCausalLM.from_pretrained("me/model")' in text


@pytest.mark.parametrize(
  "name, auto",
  [
    ("qwen2_5_vl_3b", "AutoModelForImageTextToText"),
    ("llava_1_5_7b", "AutoModelForImageTextToText"),
    ("gemma_2_2b", "AutoModelForCausalLM"),
    ("auroracap_7b", None),  # Transformers has no class for it
  ],
)
def test_a_card_tells_how_its_family_is_loaded(tmp_path, name, auto):
  a_run(tmp_path / "run", at=1)
  text = written(tmp_path, tmp_path / "run", "peft", name)
  loads = f'base = {auto}.from_pretrained("me/base", revision="abc")\n'
  adapts = 'model = PeftModel.from_pretrained(base, "me/model")\n'
  assert (loads + adapts in text) == (auto is not None)
  text = written(tmp_path, tmp_path / "run", "merged", name)
  assert (f'model = {auto}.from_pretrained("me/model")' in text) == bool(auto)
