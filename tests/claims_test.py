"""The study of the paper's claims, at toy size, and its table."""

import json

import numpy as np
import pytest

from configs import claims as claims_config
from configs import tiny_sft
from synpo_jax import claims, journal
from synpo_jax.data import spoiling, telling
from synpo_jax.study import cell, material, table

KEYS = """method seed lr qa_accuracy hallucination ranking_accuracy
chosen_logp_drift rejected_logp_drift language_logp distinct_n
seconds_per_step peak_bytes""".split()


def toy_config():
  """Two losses, sixteen clips, a captioner of random weights."""
  c = claims_config.get_config()
  c.methods, c.lrs, c.seeds = ("synpo", "dpo"), (1e-3,), (0,)
  c.ablations = {}
  c.world.update(train=16, validation=8, test=8, workers=1)
  c.candidates.update(candidates=3, new=8)
  c.run.model.update(
    checkpoint="", tokenizer="synpo_jax/assets/tiny", dtype="float32"
  )
  llm = tiny_sft.LLM | dict(hidden_size=24, intermediate_size=32)
  llm |= dict(num_hidden_layers=1, num_attention_heads=2)
  llm |= dict(num_key_value_heads=2)
  tower = tiny_sft.TOWER | dict(hidden_size=16, intermediate_size=24)
  tower |= dict(num_hidden_layers=2, num_attention_heads=2, patch_size=16)
  c.run.model.arch = dict(
    llm=llm, visual_encoder=tower, projector=dict(depth=2)
  )
  c.run.lora.update(rank=4, alpha=4.0)
  c.run.data.update(batch_size=8, response_buckets=(192,))
  c.run.epochs = 1
  return c


def told(scene):
  """A true caption and two spoiled ones, in the place of sampled ones."""
  rng = np.random.default_rng(0)
  captions = [telling.tell(scene.facts, rng)]
  for fault in ("attribute", "omission"):
    facts = spoiling.spoil(scene.facts, rng, fault)
    sentences = telling.sentences(facts or scene.facts, rng)
    captions.append(" ".join(spoiling.clumsy(sentences, rng, 1)))
  return captions


@pytest.fixture(scope="module")
def study(tmp_path_factory):
  """The rows of a toy study, and its folder."""
  workdir = tmp_path_factory.mktemp("claims")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(material, "sample", lambda *a: by_truth(workdir))
    rows = claims.run(toy_config(), workdir)
  return workdir, rows


def by_truth(workdir):
  scenes = material.graph.read_scenes(str(workdir / "world" / "scenes.jsonl"))
  return {video: told(scene) for video, scene in scenes.items()}


def test_rows_have_every_key_and_the_base_comes_first(study):
  _, rows = study
  assert [row["method"] for row in rows] == ["base", "synpo", "dpo"]
  for row in rows:
    assert set(KEYS) <= set(row)
  base, synpo, dpo = rows
  assert base["chosen_logp_drift"] == 0 == base["rejected_logp_drift"]
  assert base["seconds_per_step"] is None and base["lr"] is None
  for row in (synpo, dpo):
    assert row["chosen_logp_drift"] == pytest.approx(
      row["chosen_logp"] - base["chosen_logp"]
    )
    assert row["chosen_logp_drift"] != 0
    assert row["seconds_per_step"] > 0 and row["peak_bytes"] > 1e5
    assert row["updates"] == 2 and row["skipped"] == 0
  assert dpo["peak_bytes"] != synpo["peak_bytes"]


def test_methods_share_pairs_start_and_order(study):
  workdir, _ = study
  c = toy_config()
  captioner = material.open_captioner(c.run)
  first, second = (cell.fresh_adapter(captioner, 3) for _ in range(2))
  other = cell.fresh_adapter(captioner, 4)
  a, b, d = (np.asarray(_leaf(tree)) for tree in (first, second, other))
  assert (a == b).all() and (a != d).any()
  pairs = journal.read(workdir / "pairs_train.jsonl")
  assert len(pairs) > 8
  for row in pairs.values():
    assert row["chosen_score"] - row["rejected_score"] >= c.pairs.min_gap


def _leaf(tree):
  return tree["lora"]["decoder"]["layers"]["attn"]["q"]["a"]


def test_a_finished_study_runs_nothing_and_a_wider_one_only_what_is_new(
  study, monkeypatch
):
  workdir, rows = study
  monkeypatch.setattr(material, "sample", lambda *a: by_truth(workdir))
  monkeypatch.setattr(cell, "make_meter", None)  # nothing may need it
  assert claims.run(toy_config(), workdir) == rows
  monkeypatch.undo()
  monkeypatch.setattr(material, "sample", lambda *a: by_truth(workdir))
  c = toy_config()
  c.methods, c.seeds = ("synpo",), (5,)
  base, again = claims.run(c, workdir)
  assert base == rows[0] and again["seed"] == 5
  assert again["chosen_logp"] != rows[1]["chosen_logp"]
  c.pairs.min_gap = 2.0
  with pytest.raises(ValueError, match="pairs.min_gap"):
    claims.run(c, workdir)


def row(method, lr, seed, **values):
  blank = dict.fromkeys(table.COLUMNS, 0.0)
  return {"method": method, "lr": lr, "seed": seed} | blank | values


ROWS = [
  row("base", None, None, qa_accuracy=0.5, seconds_per_step=None),
  row("a", 1e-3, 0, validation_qa_accuracy=0.6, qa_accuracy=0.61),
  row("a", 1e-3, 1, validation_qa_accuracy=0.8, qa_accuracy=0.65),
  row("a", 1e-4, 0, validation_qa_accuracy=0.9, qa_accuracy=0.99),
  row("a", 1e-4, 1, validation_qa_accuracy=0.4, qa_accuracy=0.99),
  row("b", 1e-4, 0, validation_qa_accuracy=0.7, peak_bytes=3e6),
  row("b", 1e-3, 0, validation_qa_accuracy=0.7, peak_bytes=5e6),
]


def test_the_table_by_hand():
  assert table.choose_rates(ROWS) == {"a": 1e-3, "b": 1e-4}
  # Mean of 61 and 65; their deviation is 2.83, divided by sqrt(2) that is 2.
  assert table.mean_and_error([61.0, 65.0]) == (63.0, pytest.approx(2.0))
  lines = table.markdown(ROWS).splitlines()
  assert len(lines) == 5 and lines[1].count("---") == 11
  base, a, b = (line.split(" | ") for line in lines[2:])
  assert base[0:3] == ["| base", "-", "50.0"] and base[9] == "-"
  assert a[0:3] == ["| a", "0.001", "63.0 ± 2.0"]
  assert b[1] == "0.0001" and b[10] == "3 |"


def test_the_table_goes_between_its_marks(tmp_path):
  path = tmp_path / "README.md"
  path.write_text(f"before\n{table.START}\nold\n{table.END}\nafter\n")
  table.into(path, ROWS)
  table.into(path, ROWS)
  text = path.read_text()
  assert text.startswith("before\n") and text.endswith("after\n")
  assert "old" not in text and text.count("| base |") == 1
  (tmp_path / "no.md").write_text("x")
  with pytest.raises(ValueError, match="no lines"):
    table.into(tmp_path / "no.md", ROWS)


def test_results_are_a_list_of_rows(tmp_path):
  path = tmp_path / "results" / "claims.json"
  claims.write(ROWS, path)
  assert json.loads(path.read_text()) == ROWS


def test_one_compiled_step_serves_every_learning_rate():
  """The update of a scaled optimiser is lr times that at lr 1, as AdamW's."""
  import jax.numpy as jnp
  import optax

  params, grads = jnp.array([1.0, -2.0]), jnp.array([0.3, 0.1])
  plain = optax.adamw(3e-4, weight_decay=0.01)
  want, _ = plain.update(grads, plain.init(params), params)
  tx = cell.scaled(optax.adamw(1.0, weight_decay=0.01))
  state = (*tx.init(params)[:-1], cell.Rate(jnp.float32(3e-4)))
  got, _ = tx.update(grads, state, params)
  np.testing.assert_allclose(got, want, rtol=1e-6)
