"""The study of the paper's claims, at toy size."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import claims as claims_config
from configs import warm_start
from synpo_jax import claims
from synpo_jax.models import sharding
from synpo_jax.runtime import journal
from synpo_jax.study import candidates, cell, material, timing
from synpo_jax.world import spoiling, telling

pytestmark = pytest.mark.slow

SCORES = """f1 f1_se f1_gain f1_gain_se precision hallucination omissions
qa_accuracy words fluency ranking_accuracy chosen_logp_drift
rejected_logp_drift language_logp_drift""".split()


def toy_config():
  """Two losses, two dozen clips, a captioner of random weights."""
  c = claims_config.get_config()
  c.methods, c.lrs, c.lr_start, c.seeds = ("synpo", "dpo"), (1e-3,), 1e-3, (1,)
  c.world.update(policy=4, train=8, validation=4, test=4, second=4)
  c.candidates.update(candidates=3, new=8)
  c.look.update(gradients=2, captions=2)
  c.style.policy.updates = 1
  c.truth.update(second=("synpo",), collapse=("synpo",), collapse_epochs=1)
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
  c.run.data.update(batch_size=4, response_buckets=(112,))
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


def by_truth(c, captioner, ground, splits, path):
  return {video: told(scene) for video, scene in ground.scenes.items()}


@pytest.fixture(scope="module", autouse=True)
def small():
  """One device, two rounds of timing, and captions that need no captioner."""
  one = functools.partial(sharding.make_mesh, devices=jax.devices()[:1])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sharding, "make_mesh", one)
    patch.setattr(candidates, "sample", by_truth)
    patch.setattr(timing, "ROUNDS", 2)
    yield


@pytest.fixture(scope="module")
def study(tmp_path_factory):
  """What a toy study found, and its folder."""
  workdir = tmp_path_factory.mktemp("claims")
  return workdir, claims.run(toy_config(), workdir)


def rows_of(found, name, kind):
  return [
    row for row in found["rows"] if (row["regime"], row["kind"]) == (name, kind)
  ]


def test_each_regime_has_its_cells_in_order(study):
  _, found = study
  kinds = ["base", "rate", "cell", "rate", "cell", *["control"] * 4]
  rows = found["rows"]
  styles = [row["kind"] for row in rows if row["regime"] == "style"]
  truths = [row["kind"] for row in rows if row["regime"] == "truth"]
  assert styles == kinds
  assert truths == [*kinds, "second", "collapse"]
  for row in rows:
    if row["kind"] in ("base", "cell", "second"):
      assert set(SCORES) <= row.keys() and len(row["by_clip"]) == 4
  assert [row["method"] for row in found["timing"]] == ["synpo", "dpo"]
  for row in found["timing"]:
    assert row["seconds_per_step"] > 0 and row["peak_bytes"] > 1e5


def test_gains_and_drifts_are_differences_to_the_base(study):
  _, found = study
  base, row = (rows_of(found, "truth", kind)[0] for kind in ("base", "cell"))
  assert base["f1_gain"] == 0 == base["chosen_logp_drift"]
  assert row["chosen_logp_drift"] == row["chosen_logp"] - base["chosen_logp"]
  assert row["chosen_logp_drift"] != 0
  gains = [
    row["by_clip"][name]["words"] - base["by_clip"][name]["words"]
    for name in base["by_clip"]
  ]
  assert row["words_gain"] == pytest.approx(np.mean(gains))


def test_a_cell_tells_of_its_gradients_and_captions(study):
  _, found = study
  row = rows_of(found, "style", "cell")[0]
  assert row["method"] == "synpo" and 0 < row["bell"] <= 1
  assert row["chosen_reward_grad_norm"] > 0 < row["rejected_reward_grad_norm"]
  steps = {one["step"] for one in row["seen"] if "f1" in one}
  assert row["updates"] == 2 and steps == {2}
  too_far = rows_of(found, "truth", "collapse")[0]
  assert [one["step"] for one in too_far["seen"] if "f1" in one] == [1]


def test_the_styles_captioner_was_taught_and_the_truths_was_not(study):
  workdir, found = study
  assert (workdir / "style" / "policy.msgpack").exists()
  assert not (workdir / "truth" / "policy.msgpack").exists()
  style, truth = (
    rows_of(found, name, "base")[0]["language_logp"]
    for name in ("style", "truth")
  )
  assert style != truth
  rows = (workdir / "style" / "mixture.jsonl").read_text().splitlines()
  assert len(rows) == 4  # one update


def test_a_second_round_starts_from_what_the_first_learned(study):
  workdir, found = study
  first, again = (
    rows_of(found, "truth", kind)[0] for kind in ("cell", "second")
  )
  assert again["chosen_logp"] != first["chosen_logp"]
  pairs = workdir / "truth" / "second synpo" / "pairs_second.jsonl"
  assert 0 < len(journal.read(pairs)) <= again["updates"] * 4


def test_pairs_are_apart_in_f1_and_alike_in_length(study):
  workdir, _ = study
  c = toy_config()
  pairs = journal.read(workdir / "truth" / "pairs_train.jsonl").values()
  assert pairs
  for row in pairs:
    assert row["chosen_score"] - row["rejected_score"] >= c.truth.pairs.min_gap
    short, long = sorted(len(row[k].split()) for k in ("chosen", "rejected"))
    assert short <= c.truth.pairs.length_ratio * long


def test_a_finished_study_runs_nothing_and_a_wider_one_what_is_new(
  study, monkeypatch
):
  workdir, found = study
  monkeypatch.setattr(cell, "train", None)  # nothing may need it
  monkeypatch.setattr(timing, "measure", None)
  c = toy_config()
  assert claims.run(c, workdir) == found
  c.methods, c.regimes = ("dpo",), ("style",)
  fewer = claims.run(c, workdir)["rows"]
  assert fewer == [
    row
    for row in found["rows"]
    if row["regime"] == "style" and row["method"] != "synpo"
  ]
  c.truth.pairs.min_gap = 2.0
  with pytest.raises(ValueError, match="truth.pairs.min_gap"):
    claims.run(c, workdir)


def test_a_study_repeats_to_the_last_digit(study, tmp_path):
  _, found = study
  c = toy_config()
  c.regimes, c.methods = ("style",), ("synpo",)
  assert claims.run(c, tmp_path)["rows"] == [
    row
    for row in found["rows"]
    if row["regime"] == "style" and row["method"] != "dpo"
  ]


def test_what_cannot_be_meant_is_refused_first(tmp_path):
  c = toy_config()
  c.regimes = ("truth", "beauty")
  with pytest.raises(ValueError, match="'beauty' is none of style, truth"):
    claims.run(c, tmp_path)
  c = toy_config()
  c.seeds = (0, 1)
  with pytest.raises(ValueError, match="seeds: 0 is the tuning_seed"):
    claims.run(c, tmp_path)


def test_what_an_adapter_learned_is_put_on_a_copy_of_the_weights():
  captioner = material.open_captioner(toy_config().run)
  adapter = jax.tree.map(
    lambda leaf: leaf + 0.05, cell.fresh_adapter(captioner, 0)
  )
  was = np.asarray(_query(captioner.params["decoder"])["kernel"])
  made = cell.merged(captioner, adapter)
  learned = _query(adapter["lora"]["decoder"])
  delta = np.einsum("ldr,lre->lde", learned["a"], learned["b"])  # alpha = rank
  now = _query(made.params["decoder"])["kernel"]
  np.testing.assert_allclose(now, was + delta, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(
    _query(captioner.params["decoder"])["kernel"], was
  )


def _query(decoder):
  return decoder["layers"]["attn"]["q"]


def test_results_hold_f1_by_clip(tmp_path):
  marks = {"b": {"f1": 1.0}, "a": {"f1": 0.123456}}
  rows = [{"id": "x", "by_clip": marks}, {"id": "y"}]
  claims.write({"rows": rows, "timing": []}, tmp_path / "new" / "claims.json")
  found = json.loads((tmp_path / "new" / "claims.json").read_text())
  assert found["rows"] == [
    {"id": "x", "f1_by_clip": [0.1235, 1.0]},
    {"id": "y"},
  ]


def test_one_compiled_step_serves_every_learning_rate():
  """The update of a scaled optimiser is lr times that at lr 1, as AdamW's."""
  params, grads = jnp.array([1.0, -2.0]), jnp.array([0.3, 0.1])
  plain = optax.adamw(3e-4, weight_decay=0.01)
  want, _ = plain.update(grads, plain.init(params), params)
  tx = cell.scaled(optax.adamw(1.0, weight_decay=0.01))
  state = (*tx.init(params)[:-1], cell.Rate(jnp.float32(3e-4)))
  got, _ = tx.update(grads, state, params)
  np.testing.assert_allclose(got, want, rtol=1e-6)
