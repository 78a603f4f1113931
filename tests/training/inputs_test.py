"""A run goes on with what it began with, by content."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from synpo_jax.runtime import workdir
from synpo_jax.training import checkpoint, inputs, probe
from synpo_jax.weights import fingerprint


class Stored:
  """Stands for chunks.Frames: what its videos hold, by their digests."""

  def __init__(self, *digests):
    self.digests = digests

  def __len__(self):
    return len(self.digests)

  def digest(self, number):
    return self.digests[number] * 32


def videos(*digests):
  return SimpleNamespace(frames=Stored(*digests))


DATA, HELD = videos("ab", "cd"), videos("ef")


@pytest.fixture
def c(tmp_path):
  """The sections that name files, and those files."""
  names = {
    "data": ["pairs"],
    "heldout": ["pairs", "scenes"],
    "captioning": ["references"],
    "language": ["references", "texts"],
  }
  c = ConfigDict({"model": {"checkpoint": str(tmp_path / "base")}})
  c.lora = {"rank": 4, "dropout": 0.1}
  c.begin = {"adapter": ""}
  for section, keys in names.items():
    c[section] = {}
    for key in keys:
      path = tmp_path / f"{section}.{key}"
      path.write_text(key)
      c[section][key] = str(path)
  (tmp_path / "base").mkdir()
  (tmp_path / "base" / "model.safetensors").write_text("weights")
  return c


@pytest.fixture
def run(c, tmp_path):
  """A workdir with a checkpoint."""
  run = tmp_path / "run"
  read = inputs.claim(run, inputs.read(c, DATA, HELD))
  with checkpoint.open_manager(run, keep=1) as manager:
    saved = {"trained": {"w": jnp.zeros(3)}}, {"next": 1}, c.to_dict(), read
    checkpoint.save(manager, 1, *saved)
  return run


def test_what_a_run_reads_is_what_it_began_with(c, run, tmp_path):
  kept = inputs.claim(run, inputs.read(c, DATA, HELD))
  assert workdir.saved_inputs(run) == kept
  files = (
    *("data.pairs", "heldout.pairs", "heldout.scenes"),
    *("captioning.references", "language.references", "language.texts"),
    "base/model.safetensors",
  )
  for name in files:
    path, old = tmp_path / name, (tmp_path / name).read_text()
    path.write_text("others")
    key = "model.checkpoint" if name.startswith("base") else name
    said = f"run: {key}[^ ]* is not what the run began with .* another --work"
    with pytest.raises(ValueError, match=said) as found:
      inputs.claim(run, inputs.read(c, DATA, HELD))
    assert "\n" not in str(found.value)
    path.write_text(old)
  for data, held, key in (
    (videos("cd", "ab"), HELD, "data"),
    (DATA, videos("12"), "heldout"),
  ):
    with pytest.raises(ValueError, match=f"run: {key}.videos is not what"):
      inputs.claim(run, inputs.read(c, data, held))
  assert inputs.claim(run, inputs.read(c, DATA, HELD)) == kept


def test_a_run_whose_dropout_was_drawn_otherwise_is_refused(c, run):
  """By a later version, or by one that did not write it down."""
  now = inputs.read(c, DATA, HELD)
  [(path, then)] = [
    (path, json.loads(path.read_text()))
    for path in run.glob(f"checkpoints/*/{workdir.INPUTS}/metadata")
  ]
  for stream in ("other", None):
    said = then | {inputs.MASKS: stream}
    if stream is None:
      del said[inputs.MASKS]
    path.write_text(json.dumps(said))
    with pytest.raises(ValueError, match="masks for lora.dropout .*go on with"):
      inputs.claim(run, now)
  c.lora.dropout = 0.0  # draws none
  inputs.claim(run, inputs.read(c, DATA, HELD))


def test_all_files_of_a_glob_are_what_a_run_began_with(c, run, tmp_path):
  for name in "ab":
    (tmp_path / f"part-{name}").write_text(name)
  c.data.pairs = f"{tmp_path}/part-*"
  whole = inputs.read(c, DATA, HELD)["data.pairs"]
  (tmp_path / "part-b").write_text("else")
  assert inputs.read(c, DATA, HELD)["data.pairs"] != whole
  (tmp_path / "part-b").write_text("b")
  assert inputs.read(c, DATA, HELD)["data.pairs"] == whole
  (tmp_path / "part-c").write_text("c")
  assert inputs.read(c, DATA, HELD)["data.pairs"] != whole
  c.data.pairs = f"{tmp_path}/part-a"
  single = inputs.read(c, DATA, HELD)["data.pairs"]
  assert single == hashlib.sha256(b"a").hexdigest()


def test_a_key_that_may_change_may_name_another_file(c, run, tmp_path):
  (tmp_path / "more").write_text("more")
  c.language.texts = str(tmp_path / "more")
  kept = inputs.claim(run, inputs.read(c, DATA, HELD))
  assert kept.keys() - workdir.saved_inputs(run).keys() == {
    f"language.texts={tmp_path}/more"
  }
  c.language.texts = c.heldout.scenes = ""  # is not read any more
  assert inputs.claim(run, inputs.read(c, DATA, HELD))


def test_videos_of_the_language_rows_are_read_too(c, run, monkeypatch):
  ready = SimpleNamespace(inputs=inputs.read(c, DATA, HELD))
  data = {"reference_logp": HELD, "text_logp": SimpleNamespace(frames=None)}
  before = set(ready.inputs)
  probe._claim(ready, c, run, data)
  (key,) = set(ready.inputs) - before
  assert key == f"videos of language.references={c.language.references}"
  kept = dict(ready.inputs)
  monkeypatch.setattr(workdir, "saved_inputs", lambda _: kept)
  probe._claim(ready, c, run, data)
  with pytest.raises(ValueError, match=f"run: {key} is not what the run began"):
    probe._claim(ready, c, run, data | {"reference_logp": DATA})


def test_what_made_nothing_yet_binds_nobody(c, tmp_path):
  for content in ("one", "two"):
    (tmp_path / "data.pairs").write_text(content)
    inputs.claim(tmp_path / "new", inputs.read(c, DATA, None))


def test_the_weights_that_a_run_began_with_are_kept(c, run, tmp_path, caplog):
  base, held = tmp_path / "base", run / "identity.json"
  then = {"captioner_digest": fingerprint.captioner(str(base), "")}
  assert json.loads(held.read_text()) == then
  held.unlink()  # the checkpoint says so, too
  (base / "model.safetensors").write_text("others")
  with pytest.raises(ValueError, match="not the files that .*run started from"):
    fingerprint.check_base(run, str(base))
  shutil.rmtree(run / "checkpoints" / "1" / "inputs")  # an earlier version's
  inputs.claim(run, inputs.read(c, DATA, HELD))
  assert not held.exists() and "kept no digests of what it reads" in caplog.text
