"""The study of the paper's claims, at toy size, and its table."""

import json

import numpy as np
import pytest

from configs import claims as claims_config
from configs import warm_start
from synpo_jax import claims
from synpo_jax.runtime import journal
from synpo_jax.study import cell, figure, grid, material, table
from synpo_jax.world import spoiling, telling
from synpo_jax.world.scene import read_scenes

pytestmark = pytest.mark.slow

KEYS = """method seed lr qa_accuracy hallucination ranking_accuracy
chosen_logp_drift rejected_logp_drift language_logp distinct_n
seconds_per_step peak_bytes""".split()


def toy_config():
  """Two losses, sixteen clips, a captioner of random weights."""
  c = claims_config.get_config()
  c.methods, c.lrs, c.seeds = ("synpo", "dpo"), (1e-3,), (0,)
  c.reward_norms = 0
  c.world.update(train=16, validation=8, test=8, workers=1)
  c.candidates.update(candidates=3, new=8)
  c.run.model.update(
    checkpoint="", tokenizer="synpo_jax/assets/tiny", dtype="float32"
  )
  llm = warm_start.LLM | dict(hidden_size=24, intermediate_size=32)
  llm |= dict(num_hidden_layers=1, num_attention_heads=2)
  llm |= dict(num_key_value_heads=2)
  tower = warm_start.TOWER | dict(
    image_size=48, kept_ratio=0.3, hidden_size=16, intermediate_size=24
  )
  tower |= dict(num_hidden_layers=2, num_attention_heads=2, patch_size=16)
  c.run.model.arch = dict(
    llm=llm, visual_encoder=tower, projector=dict(depth=2)
  )
  c.run.lora.update(rank=4, alpha=4.0)
  c.run.data.update(batch_size=8, response_buckets=(112,))
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
  scenes = read_scenes(str(workdir / "world" / "scenes.jsonl"))
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


def test_gains_are_means_of_differences_clip_by_clip(study):
  workdir, rows = study
  base, synpo = (
    journal.read(workdir / "cells" / name / "clips.jsonl")
    for name in ("base", "synpo_lr=0.001_seed=0")
  )
  assert base.keys() == synpo.keys() and len(base) == 8
  gains = [
    synpo[name]["qa_accuracy"] - base[name]["qa_accuracy"] for name in base
  ]
  assert rows[1]["qa_gain"] == pytest.approx(np.mean(gains))
  error = np.std(gains, ddof=1) / np.sqrt(8)
  assert rows[1]["qa_gain_error"] == pytest.approx(error)
  assert rows[0]["qa_gain"] == 0


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


def test_a_finished_study_runs_nothing(study, monkeypatch):
  workdir, rows = study
  monkeypatch.setattr(material, "sample", lambda *a: by_truth(workdir))
  monkeypatch.setattr(cell, "make_meter", None)  # nothing may need it
  c = toy_config()
  assert claims.run(c, workdir) == rows
  c.methods = ("dpo",)
  assert claims.run(c, workdir) == [rows[0], rows[2]]
  c.pairs.min_gap = 2.0
  with pytest.raises(ValueError, match="pairs.min_gap"):
    claims.run(c, workdir)


@pytest.mark.slow
def test_a_wider_study_runs_what_is_new_and_the_same_seeds_repeat(
  study, monkeypatch, tmp_path
):
  workdir, rows = study
  monkeypatch.setattr(material, "sample", lambda *a: by_truth(workdir))
  c = toy_config()
  c.methods, c.seeds = ("synpo",), (5,)
  base, other = claims.run(c, workdir)
  assert base == rows[0] and other["seed"] == 5
  assert other["chosen_logp"] != rows[1]["chosen_logp"]
  monkeypatch.setattr(material, "sample", lambda *a: by_truth(tmp_path))
  c = toy_config()
  c.methods = ("synpo",)
  again = claims.run(c, tmp_path)
  for row, was in zip(again, rows, strict=False):
    changed = {key: (was[key], row[key]) for key in was if was[key] != row[key]}
    assert set(changed) <= {"seconds_per_step"}, changed


LOSSES = {"synpo": {"alpha": 30.0, "beta": 0.2}, "sft": {}}
HOW = dict(lrs=(1.0, 2.0, 3.0), seeds=(4, 0), tuning_seed=0)


def ran(names, merits, **how):
  """(cells in order, those reported, counts before and after)."""
  methods = [grid.parse(name, LOSSES) for name in names]
  rows, order, last = {}, [], {}
  before = grid.count(methods, rows, **how)
  for one, reported in grid.cells(methods, rows, **how):
    last[one] = reported
    if one.id not in rows:
      order.append(one)
      rows[one.id] = {"validation_qa_accuracy": merits.get(one.lr)}
  after = grid.count(methods, rows, **how)
  return order, [one for one in order if last[one]], before, after


def test_rates_are_chosen_with_one_seed_and_shared_with_the_ablations():
  merits = {1.0: 0.3, 2.0: 0.5, 3.0: 0.5}
  names = ["synpo", "synpo beta=1 alpha=7"]
  order, reported, before, after = ran(names, merits, **HOW)
  tried = [("synpo", lr, 0) for lr in (1.0, 2.0, 3.0)]
  changed = [("synpo beta=1 alpha=7", 2.0, seed) for seed in (4, 0)]
  assert order == [grid.BASE, *tried, ("synpo", 2.0, 4), *changed]
  assert reported == [grid.BASE, tried[1], ("synpo", 2.0, 4), *changed]
  assert before == (7, 0) and after == (7, 7)
  # One rate: nothing to choose; another seed than that of the choice: only
  # the cells that were asked for are reported.
  how = HOW | {"lrs": (2.0,)}
  assert ran(["sft"], merits, **how)[0][1:] == [("sft", 2.0, s) for s in (4, 0)]
  how = HOW | {"seeds": (7,)}
  order, reported, before, after = ran(["sft"], merits, **how)
  assert len(order) == 5 and before == (5, 0) and after == (5, 5)
  assert reported == [grid.BASE, ("sft", 2.0, 7)]


def test_methods_by_name():
  method = grid.parse("synpo alpha=10", LOSSES)
  assert method == ("synpo alpha=10", "synpo", {"alpha": 10.0, "beta": 0.2})
  assert LOSSES["synpo"]["alpha"] == 30.0
  with pytest.raises(ValueError, match="'sinpo' is none of sft, synpo"):
    grid.parse("sinpo", LOSSES)
  with pytest.raises(ValueError, match="no coefficient 'gamma'"):
    grid.parse("synpo gamma=1", LOSSES)


def row(method, lr, seed, **values):
  blank = dict.fromkeys(table.COLUMNS, 0.0) | {"reported": True}
  blank["qa_gain_error"] = 0.0
  return {"method": method, "lr": lr, "seed": seed} | blank | values


ROWS = [
  row("base", None, None, qa_accuracy=0.5, seconds_per_step=None),
  row("a", 1e-4, 0, qa_accuracy=0.99, reported=False),
  row("a", 1e-3, 0, qa_accuracy=0.61, qa_gain=0.11, qa_gain_error=0.02),
  row("a", 1e-3, 1, qa_accuracy=0.65, qa_gain=0.15, qa_gain_error=0.04),
  row("b x=1", 1e-4, 0, peak_bytes=3e6),
]


def test_the_table_by_hand():
  # Mean of 61 and 65; their deviation is 2.83, divided by sqrt(2) that is 2.
  assert table.mean_and_error([61.0, 65.0]) == (63.0, pytest.approx(2.0))
  lines = table.markdown(ROWS).splitlines()
  assert len(lines) == 5 and lines[1].count("---") == 17
  base, a, b = (line.split(" | ") for line in lines[2:])
  assert base[0:3] == ["| base", "-", "50.0"] and base[15] == "-"
  assert a[0:4] == ["| a", "0.001", "63.0 ± 2.0", "13.0 ± 3.0"]
  assert b[1] == "0.0001" and b[16] == "3 |"


def test_the_table_goes_between_its_marks(tmp_path):
  path = tmp_path / "README.md"
  path.write_text(f"before\n{table.START}\nold\n{table.END}\nafter\n")
  picture = tmp_path / "results" / "claims.png"
  table.into(path, ROWS, picture)
  table.into(path, ROWS, picture)
  text = path.read_text()
  assert text.startswith("before\n") and text.endswith("after\n")
  assert "old" not in text and text.count("| base |") == 1
  assert text.count("](results/claims.png)") == 1 and "seeds 0, 1;" in text
  (tmp_path / "no.md").write_text("x")
  with pytest.raises(ValueError, match="no lines"):
    table.into(tmp_path / "no.md", ROWS, picture)


def test_the_figure_is_drawn(tmp_path):
  keys = dict(language_logp=-0.5, chosen_logp_drift=0.1)
  figure.draw([r | keys for r in ROWS], tmp_path / "new" / "claims.png")
  assert (tmp_path / "new" / "claims.png").stat().st_size > 20_000


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
