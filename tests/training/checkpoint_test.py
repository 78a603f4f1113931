"""A workdir belongs to one config; a state may move to another mesh."""

import functools
import gc
import json
import shutil
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from synpo_jax.models import sharding
from synpo_jax.runtime import workdir
from synpo_jax.training import checkpoint
from synpo_jax.weights import adapters
from tests.support import small_files

CONFIG = {"seed": 0, "optim": {"lr": 1e-3}, "every": {"log": 1}}
OTHER = CONFIG | {"optim": {"lr": 2e-3}}
DIFFERS = r"run with another config: optim\.lr \(0\.001 there, 0\.002 now"


def saved_run(folder, config):
  """A workdir with its config and one checkpoint."""
  workdir.claim_workdir(folder, config)
  state = {"trained": {"w": jnp.zeros(3)}}
  with checkpoint.open_manager(folder, keep=1) as manager:
    checkpoint.save(manager, 1, state, {"next": 1}, config, {})
  return folder


def test_a_workdir_of_another_config_is_refused_by_key(tmp_path):
  run = saved_run(tmp_path / "run", CONFIG)
  workdir.claim_workdir(run, CONFIG | {"every": {"log": 7}}, free=("every",))
  with pytest.raises(ValueError, match=DIFFERS):
    workdir.claim_workdir(run, OTHER, free=("every",))


def test_a_run_whose_config_is_lost_or_anothers_is_not_adopted(tmp_path):
  run = saved_run(tmp_path / "run", CONFIG)
  for content in (None, json.dumps(OTHER)):
    (run / "config.json").unlink(missing_ok=True)
    if content:
      (run / "config.json").write_text(content)
    with pytest.raises(ValueError, match=DIFFERS):
      workdir.claim_workdir(run, OTHER)
    assert (run / "config.json").exists() == bool(content)
  (run / "config.json").unlink()
  workdir.claim_workdir(run, CONFIG)  # the checkpoint says that it is this one
  assert workdir.run_config(run) == CONFIG
  (run / "config.json").write_text(json.dumps(CONFIG | {"seed": 7}))
  said = r"checkpoints/1 was saved under another config \(seed \(0 there, 7 now"
  with pytest.raises(ValueError, match=said):
    workdir.run_config(run)
  shutil.rmtree(run / "checkpoints" / "1" / "config")  # an earlier version's
  (run / "config.json").unlink()
  with pytest.raises(ValueError, match="config.json is gone.* put it back"):
    workdir.claim_workdir(run, CONFIG)


def test_a_start_that_failed_claims_no_workdir(tmp_path):
  workdir.claim_workdir(tmp_path, CONFIG, made=["rows.jsonl"])
  (tmp_path / "checkpoints").mkdir()
  workdir.claim_workdir(tmp_path, OTHER, made=["rows.jsonl"])
  assert workdir.run_config(tmp_path) == OTHER
  (tmp_path / "rows.jsonl").touch()
  with pytest.raises(ValueError, match="0.002 there, 0.001 now"):
    workdir.claim_workdir(tmp_path, CONFIG, made=["rows.jsonl"])


def test_a_state_saved_on_one_mesh_is_restored_on_another(tmp_path):
  values = jnp.arange(64, dtype=jnp.float32).reshape(8, 8)
  saved_on = sharding.make_mesh(data=1, fsdp=8, model=1)
  restored_on = sharding.make_mesh(data=2, fsdp=2, model=2)
  state = {"w": jax.device_put(values, NamedSharding(saved_on, P("fsdp")))}
  with checkpoint.open_manager(tmp_path, keep=1) as manager:
    checkpoint.save(manager, 3, state, {"next": 3}, {}, {})
    manager.wait_until_finished()
    target = {"w": NamedSharding(restored_on, P("model", "fsdp"))}
    fresh = jax.device_put(state, target)
    restored, data = checkpoint.restore(manager, checkpoint.abstract(fresh))
  assert data == {"next": 3}
  assert restored["w"].sharding == target["w"]
  np.testing.assert_array_equal(restored["w"], values)


@pytest.mark.parametrize("place", ["state/d", "state/ocdbt.*/d", "data"])
def test_a_damaged_checkpoint_is_named_and_can_be_left_out(tmp_path, place):
  state = {"trained": {"w": jnp.arange(512.0)}}
  with checkpoint.open_manager(tmp_path, keep=2) as manager:
    for step in (2, 4):
      now = jax.tree.map(functools.partial(jnp.add, step), state)
      checkpoint.save(manager, step, now, {"next": step}, {}, {})
    manager.wait_until_finished()
  newest = tmp_path / "checkpoints" / "4"
  for path in newest.glob(f"{place}/*"):
    path.write_bytes(b"")
  like = checkpoint.abstract(state)
  said = f"{newest}: this .* cannot be read .* folder to go on after update 2"
  with checkpoint.open_manager(tmp_path, keep=2) as manager:
    with pytest.raises(workdir.Unreadable, match=said):
      checkpoint.restore(manager, like)
  if place != "data":  # which only training reads
    with pytest.raises(workdir.Unreadable, match=f"{newest}: .* the one bef"):
      adapters.read_run(tmp_path)
  shutil.rmtree(newest)
  with checkpoint.open_manager(tmp_path, keep=2) as manager:
    restored, data = checkpoint.restore(manager, like)
  w = restored["trained"]["w"]
  np.testing.assert_array_equal(w, np.arange(512) + 2)
  assert data == {"next": 2}


def test_a_damaged_checkpoint_says_one_thing(tmp_path, monkeypatch):
  """Its library reports every other array that it was reading, too."""
  said = []
  monkeypatch.setattr(sys, "unraisablehook", said.append)
  state = {"trained": {f"w{i}": jnp.arange(512.0) + i for i in range(80)}}
  with checkpoint.open_manager(tmp_path, keep=1) as manager:
    checkpoint.save(manager, 1, state, {"next": 1}, {}, {})
    checkpoint.finish(manager)
  for path in (tmp_path / "checkpoints/1/state").glob("ocdbt.*/d/*"):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
  for _ in range(3):
    with pytest.raises(workdir.Unreadable):
      adapters.read_run(tmp_path)
  time.sleep(0.3)
  assert not said


def flipped(path, step):
  """The checkpoint of a step once more, a bit of its arrays another one.

  What is saved is what a store would return whose damage it did not notice.
  """
  reader, folder = ocp.PyTreeCheckpointer(), path / str(step) / "state"
  as_numpy = jax.tree.map(
    lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
    reader.metadata(folder).item_metadata.tree,
  )
  state = reader.restore(folder, restore_args=as_numpy)
  state["trained"]["w"].view(np.uint32)[7] ^= 1 << 13
  shutil.rmtree(folder)
  reader.save(folder, state)


def test_arrays_and_positions_are_those_that_were_saved(tmp_path, caplog):
  state = {"trained": {"w": jnp.arange(512.0)}, "step": jnp.int32(4)}
  with checkpoint.open_manager(tmp_path, keep=2) as manager:
    for step in (2, 4):
      checkpoint.save(manager, step, state, {"next": step}, {"lora": {}}, {})
  (tmp_path / "config.json").write_text('{"lora": {}}')
  folder, like = tmp_path / "checkpoints", checkpoint.abstract(state)
  shutil.copytree(folder, tmp_path / "kept")
  flipped(folder, 4)
  said = f"{folder}/4: .*trained/w is not as .* folder to go on after update 2"
  with checkpoint.open_manager(tmp_path, keep=2) as manager:
    with pytest.raises(workdir.Unreadable, match=said):
      checkpoint.restore(manager, like)
  with pytest.raises(workdir.Unreadable, match="trained/w is not as it was s"):
    adapters.read_run(tmp_path)
  shutil.rmtree(folder)
  shutil.copytree(tmp_path / "kept" / "2", folder / "6")
  with checkpoint.open_manager(tmp_path, keep=2) as manager:
    with pytest.raises(workdir.Unreadable, match="its data stands at update 2"):
      checkpoint.restore(manager, like)
  shutil.rmtree(folder)
  shutil.copytree(tmp_path / "kept" / "2", folder / "2")
  shutil.rmtree(folder / "2" / "digests")  # as before there were any
  with checkpoint.open_manager(tmp_path, keep=2) as manager:
    checkpoint.restore(manager, like)
  assert f"{folder}/2: an earlier version saved it" in caplog.text


def test_a_disk_that_takes_no_checkpoint_is_said(tmp_path, monkeypatch):
  def full(*_, **__):
    raise ValueError("No space left on device\nand pages of where")

  state = {"w": jnp.zeros(3)}
  said = f"{tmp_path}/checkpoints: .* cannot be written .No space left on dev"
  for name in ("save", "wait_until_finished", "close"):
    with monkeypatch.context() as patch:
      patch.setattr(ocp.CheckpointManager, name, full)
      with pytest.raises(checkpoint.Unwritten, match=said):
        with checkpoint.open_manager(tmp_path, keep=1) as manager:
          checkpoint.save(manager, 1, state, {}, {}, {})
          checkpoint.finish(manager)


def test_a_full_disk_is_said_once_with_its_reason(tmp_path, caplog):
  weights = np.random.default_rng(0).normal(size=40_000).astype(np.float32)
  state = {"w": jnp.asarray(weights)}
  said = "checkpoint cannot be written .* File too large"
  with pytest.raises(checkpoint.Unwritten, match=said) as found:
    with checkpoint.open_manager(tmp_path, keep=1) as manager:
      with small_files.limited(20_000):
        checkpoint.save(manager, 1, state, {}, {}, {})
        checkpoint.finish(manager)
  assert "\n" not in str(found.value)
  assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.slow
def test_writes_that_end_after_the_first_failed_leave_no_trace(
  tmp_path, capfd, caplog
):
  """Of small arrays beside one that is too large, which fails at once."""
  drawn = np.random.default_rng(0).normal(size=2**16).astype(np.float32)
  state = {str(i): jnp.asarray(drawn[: 2 ** (i % 16)]) for i in range(160)}
  for turn in range(4):
    with pytest.raises(checkpoint.Unwritten):
      with checkpoint.open_manager(tmp_path / str(turn), keep=1) as manager:
        with small_files.limited(20_000):
          checkpoint.save(manager, 1, state, {}, {}, {})
          checkpoint.finish(manager)
  gc.collect()
  assert "Traceback" not in capfd.readouterr().err
  assert not [record for record in caplog.records if record.exc_info]
