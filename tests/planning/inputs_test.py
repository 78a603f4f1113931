"""What a run reads is looked at before anything is made, and named if wrong."""

import json
import shutil
from types import SimpleNamespace

import pytest

from configs import vdc
from synpo_jax.planning import disk, inputs
from synpo_jax.runtime.flags import Change
from tests.support.paths import ROOT

ROW = dict(video="a.mp4", chosen="A ball.", rejected="A cat.")
# Inputs and outputs of the shipped captioner's adapted layers: four of
# attention and three of the MLP in each of four.
ADAPTED = 4 * (4 * (192 + 192) + 3 * (192 + 512))
SCORES = dict(chosen_score=9.0, rejected_score=1.0)


ESTIMATE = disk.estimate


def unknown(*_):
  raise ValueError


@pytest.fixture
def config(tmp_path, monkeypatch):
  """A config whose files are all there: two rows, one of their two videos."""
  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(disk, "estimate", unknown)  # it traces a model
  c = vdc.get_config()
  c.world.clips, c.heldout.pairs = 0, ""
  c.data.update(pairs=str(tmp_path / "p.jsonl"), videos=str(tmp_path))
  rows = (ROW | SCORES, ROW | SCORES | {"video": "b.mp4"})
  (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
  (tmp_path / "a.mp4").touch()
  return c


def look(c, changed=None):
  found = inputs.look(c, changed or {}, "configs/vdc.py", c.data.videos)
  return {finding.what: finding for finding in found}


def test_all_that_is_there_is_ok(config):
  found = look(config)
  assert all(finding.ok for finding in found.values()), found
  assert found["loss"].told == "synpo alpha=30.0, beta=0.2"
  assert found["checkpoint"].told.startswith("synpo_jax/assets/tiny: ")
  assert found["pairs"].told.endswith("its first 2 rows can be read")
  assert found["videos"].told.endswith("1 of 2 videos of the first rows")
  assert "GiB free" in found["disk"].told
  inputs.check(config, {}, "configs/vdc.py")


@pytest.mark.parametrize(
  "section, key, value, what, told",
  (
    ("model", "checkpoint", "no/folder", "checkpoint", "no/folder: no such"),
    ("model", "checkpoint", "docs", "checkpoint", "docs/config.json"),
    ("model", "tokenizer", "docs", "tokenizer", "docs"),
    ("data", "pairs", "no.jsonl", "pairs", "no.jsonl: no such file of pairs"),
    ("heldout", "pairs", "no.jsonl", "held-out pairs", "no such file"),
    ("data", "videos", "no", "videos", "data.videos=no: no such folder"),
    ("data", "videos", "docs", "videos", "none of 2 videos; "),
    ("loss", "name", "synop", "loss", "no such loss; nearest: synpo"),
    ("loss", "name", "dpo", "loss", "dpo takes beta, given are alpha, beta"),
  ),
)
def test_what_is_missing_is_named(config, section, key, value, what, told):
  config[section][key] = value
  finding = look(config)[what]
  assert not finding.ok and told in finding.told and "\n" not in finding.told
  if what != "videos":
    with pytest.raises((ValueError, OSError), match="no|takes|docs"):
      inputs.check(config, {}, "configs/vdc.py")


def test_what_a_run_refuses_of_packing_is_named(config):
  assert look(config)["packing"].told == "none wanted"
  config.data.packing = 4096
  found = look(config)["packing"]
  assert found.ok and found.told == "pairs share rows of 4096 positions"
  config.step.layout_name = "two_sequence"
  found = look(config)["packing"]
  assert not found.ok and "set it to shared, or data.packing=0" in found.told
  with pytest.raises(ValueError, match="two_sequence does not"):
    inputs.check(config, {}, "configs/vdc.py")


def test_a_row_that_cannot_be_read_is_named_by_its_line(config, tmp_path):
  (tmp_path / "p.jsonl").write_text(f"{json.dumps(ROW | SCORES)}\n\n{{\n")
  assert "p.jsonl:3: is not JSON" in look(config)["pairs"].told


def test_rows_without_scores_are_wanted_only_where_the_gap_is_none(
  config, tmp_path
):
  (tmp_path / "p.jsonl").write_text(json.dumps(ROW))
  assert "score" in look(config)["pairs"].told
  config.data.min_score_gap = None
  assert look(config)["pairs"].ok


def test_what_the_world_makes_is_not_looked_for(config):
  config.world.update(clips=4, folder="nowhere")
  config.data.update(pairs="nowhere/pairs.jsonl", videos="nowhere")
  found = look(config)
  assert found["pairs"].ok and found["videos"].ok


@pytest.mark.slow
def test_a_full_disk_is_named_with_what_the_run_needs(config, monkeypatch):
  """Two videos of 8 frames of 64 x 64 pixels, and as many features."""
  monkeypatch.setattr(disk, "estimate", ESTIMATE)
  config.cache.features = True
  config.data.cache = str(ROOT / "runs" / "not there")
  assert look(config)["disk"].ok
  usage = SimpleNamespace(free=10 * 2**20)
  monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
  found = look(config)["disk"]
  assert not found.ok and "10 MiB free for" in found.told
  needed = ESTIMATE(config, "run", ["a.mp4", "b.mp4"])
  assert needed[config.data.cache] == dict(
    frames=2 * 8 * 64 * 64 * 3, features=2 * 8 * 16 * 128 * 2
  )
  learned = needed["run"]["checkpoints"] / 12 / (config.keep_checkpoints + 1)
  assert learned == 16 * ADAPTED
  config.data.pairs = "no.jsonl"
  assert "needed" in look(config)["disk"].told  # of the checkpoints


def test_more_readers_than_cores_are_said(config):
  config.data.workers = 10_000
  found = look(config)["workers"]
  assert found.ok and found.told.startswith("10000 for ")
  assert "data.workers=" in found.told


def test_another_loss_alone_is_refused_with_the_way_out():
  c = vdc.get_config("model=tiny,loss=synpo")
  c.loss.name = "cpo"
  changed = {"loss.name": Change("synpo", "cpo")}
  with pytest.raises(ValueError) as error:
    inputs.check_loss(c, changed, "configs/vdc.py:model=smol,loss=synpo")
  assert str(error.value) == (
    "--config.loss.name=cpo would keep alpha, beta of synpo; give "
    "--config=configs/vdc.py:model=smol,loss=cpo instead"
  )
  for name in ("alpha", "beta"):
    changed[f"loss.coefficients.{name}"] = Change(30.0, 1.0)
  assert inputs.check_loss(c, changed, "vdc").startswith("cpo ")


def test_the_same_loss_again_changes_nothing():
  changed = {"loss.name": Change("synpo", "synpo")}
  c = vdc.get_config()
  assert inputs.check_loss(c, changed, "vdc") == ("synpo alpha=30.0, beta=0.2")


def test_an_update_of_one_pair_is_refused_where_pairs_are_compared():
  c = vdc.get_config("loss=kto")
  c.data.update(batch_size=1, accumulation=1)
  with pytest.raises(ValueError, match="kto .*holds 1; change data.b"):
    inputs.check_loss(c, {}, "vdc")
  c.data.accumulation = 2
  assert inputs.check_loss(c, {}, "vdc").startswith("kto ")


def test_what_goes_to_a_bucket_needs_no_room_but_a_cache(config, monkeypatch):
  monkeypatch.setattr(disk, "estimate", ESTIMATE)
  config.data.cache = "gs://bucket/cache"
  told = disk.check(config, "gs://bucket/run", [])
  assert "checkpoints" not in told
  assert "free for" in told and "synpo_jax/caches" in told
