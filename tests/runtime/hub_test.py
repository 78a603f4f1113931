"""Models of a hub: fetched once and pinned, pushed byte for byte."""

import re

import pytest

from configs import vdc
from synpo_jax import train
from synpo_jax.data import pairs
from synpo_jax.planning import inputs
from synpo_jax.runtime import hub, shipped, workdir
from tests.support import hub_server


@pytest.fixture
def served(tmp_path, monkeypatch):
  with hub_server.serving(monkeypatch, tmp_path / "cache") as found:
    yield found


@pytest.fixture
def folder(tmp_path):
  """An export: a card, a small file, one for the large files' way."""
  made = tmp_path / "made"
  (made / "deep").mkdir(parents=True)
  (made / "README.md").write_text("---\nlibrary_name: peft\n---\n# It\n")
  (made / "deep" / "config.json").write_text("{}")
  (made / "weights.safetensors").write_bytes(bytes(range(256)) * 100)
  return made


def test_what_is_pushed_arrives_byte_for_byte(served, folder):
  address = hub.push(folder, "me/model")
  files = [path for path in folder.rglob("*") if path.is_file()]
  assert served.pushed == {
    path.relative_to(folder).as_posix(): path.read_bytes() for path in files
  }
  assert len(served.large) == 1
  assert address.endswith(f"/me/model/commit/{hub_server.COMMIT}")
  assert served.made == ["me/model"] and served.private
  assert served.tokens >= {"Bearer hf_very_secret"}
  hub.push(folder, "me/model")  # it is there: 409
  assert served.made == ["me/model"]


@pytest.mark.parametrize("at", ["/api/repos/create", "/api/models/me/model/"])
@pytest.mark.parametrize("status", [401, 409, 500])
def test_what_the_hub_refuses_is_one_line(served, folder, at, status):
  if at == "/api/repos/create" and status == 409:
    return  # it is there already
  served.failing[at] = status
  with pytest.raises(OSError, match=f"--push=me/model: .*{status}: ") as info:
    hub.push(folder, "me/model")
  told = str(info.value)
  assert "\n" not in told and "secret" not in told and "is whole" in told
  assert (status == 401) == ("HF_TOKEN" in told)
  assert not served.pushed


def test_a_model_is_fetched_once_and_pinned(served, tmp_path, monkeypatch):
  files = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "sub/config.json": b'{"a": 1}',
    "modeling.py": b"raise SystemExit",
  }
  served.files = files
  monkeypatch.chdir(tmp_path)
  name = hub.pinned("me/model")
  assert name == f"me/model@{hub_server.COMMIT}"
  found = shipped.find(name)
  held = [path for path in found.rglob("*") if path.is_file()]
  got = {p.relative_to(found).as_posix(): p.read_bytes() for p in held}
  assert got == {k: v for k, v in files.items() if k != "modeling.py"}
  served.failing["/"] = 500  # and now from the cache
  assert hub.pinned("me/model", name) == name
  assert hub.pinned(name) == name and shipped.find(name) == found
  with pytest.raises(OSError, match="model.checkpoint=me/other: no folder"):
    hub.pinned("me/other")


def test_a_run_stays_at_the_commit_that_it_began_with(served, tmp_path):
  folder = shipped.PACKAGE / "assets" / "tiny"
  served.files = {p.name: p.read_bytes() for p in folder.glob("*.*")}
  for part in ("projector", "visual_encoder"):
    for path in (folder / part).glob("*"):
      served.files[f"{part}/{path.name}"] = path.read_bytes()
  c = vdc.get_config()
  c.model.checkpoint = "me/model"
  train.pin(c, tmp_path / "run")
  assert c.model.checkpoint == f"me/model@{hub_server.COMMIT}"
  local = vdc.get_config()
  told = inputs.check_checkpoint(local).rpartition(": ")[2]
  assert inputs.check_checkpoint(c).endswith(f": {told}")
  assert "captions end with" in inputs.check_tokenizer(c)
  workdir.claim_workdir(tmp_path / "run", c.to_dict())
  served.commit = "0dd" * 13 + "0"
  again, other = vdc.get_config(), vdc.get_config()
  again.model.checkpoint = other.model.checkpoint = "me/model"
  train.pin(again, tmp_path / "run")
  assert again.model.checkpoint == c.model.checkpoint
  train.pin(other, tmp_path / "other")
  assert other.model.checkpoint == f"me/model@{served.commit}"


def test_rows_of_a_data_set_are_fetched_and_read(served):
  row = b'{"question": "Q?", "chosen": "a", "rejected": "b"}\n'
  served.files = {
    "data/train-0.jsonl": row,
    "data/train-1.jsonl": row * 2,
    "data/test-0.jsonl": row,
  }
  name = "hf://me/pairs/data/train-*.jsonl"
  assert len(pairs.read_pairs(name).pairs) == 3
  with pytest.raises(ValueError, match="hf://me/pairs: name a data set and f"):
    pairs.read_pairs("hf://me/pairs")
  served.failing["/"] = 500
  other = "hf://datasets/me/others/data/*.jsonl"
  with pytest.raises(OSError, match=f"{re.escape(other)}: not in") as info:
    pairs.read_pairs(other)
  assert "\n" not in str(info.value)


def test_folders_are_no_names_of_a_hub(served, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "runs" / "smol").mkdir(parents=True)
  for place in ("", "runs/smol", "/a/b", "./a", "a/b/c", "synpo_jax/assets/x"):
    assert hub.pinned(place) == place
  assert not served.tokens
