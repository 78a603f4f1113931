"""Weights, tokenizer and adapters in buckets are those of the same folder."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from synpo_jax.data import text
from synpo_jax.runtime import buckets
from synpo_jax.weights import adapters, fingerprint, folders, safetensors_files
from synpo_jax.weights.config_reading import captioner_config
from tests.support import small_captioner, stores


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  made = tmp_path_factory.mktemp("captioner")
  small_captioner.write_captioner(made)
  return made


def load(place):
  return folders.load(place, captioner_config(place), dtype=np.float32)


@pytest.mark.parametrize("store", ("google", "amazon"))
def test_a_checkpoint_is_read_tensor_by_tensor(
  request, folder, store, monkeypatch
):
  place = stores.upload(folder, f"{request.getfixturevalue(store)}/captioner")
  largest, ask = [], buckets.BucketPath._ask

  def note(path, what, *given, **how):
    found = ask(path, what, *given, **how)
    if path.suffix == ".safetensors" and isinstance(found, bytes):
      largest.append(len(found))
    assert what != "get_file" and how.get("block_size", 0) <= buckets.HEADERS
    return found

  monkeypatch.setattr(buckets.BucketPath, "_ask", note)
  jax.tree.map(np.testing.assert_array_equal, load(folder), load(place))
  tensors = folders.open_folder(folder).tensors.values()
  assert max(largest) == max(4 * np.prod(one.shape) for one in tensors)


def test_the_rest_of_a_checkpoint_is_the_same_too(google, folder):
  place = stores.upload(folder, f"{google}/words")
  ours, theirs = (text.load_tokenizer(str(x)) for x in (folder, place))
  assert ours.get_vocab() == theirs.get_vocab()
  assert theirs.name_or_path == place
  names = (fingerprint.captioner(str(x), "") for x in (folder, place))
  assert len(set(names)) == 1
  with pytest.raises(ValueError, match=f"{google}/none: holds no tokenizer"):
    text.load_tokenizer(f"{google}/none")


def test_a_file_that_is_cut_off_is_named(google, folder):
  path = buckets.at(google) / "cut" / "model.safetensors"
  path.write_bytes((folder / "model.safetensors").read_bytes()[:-4])
  with pytest.raises(ValueError, match=f"{path}: not a safetensors file"):
    safetensors_files.spans(path)
  path.write_bytes(b"short")
  with pytest.raises(ValueError, match=f"{path}: not a safetensors file"):
    safetensors_files.spans(path)


def test_a_peft_folder_is_read(google, folder, tmp_path):
  sizes = captioner_config(folder)
  tensors, width = {}, sizes.decoder.width
  for layer in range(sizes.decoder.layers):
    stem = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
    tensors[f"{stem}.lora_A.weight"] = np.ones((3, width), np.float32)
    tensors[f"{stem}.lora_B.weight"] = np.ones((width, 3), np.float32)
  said = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "bias": "none"}
  (tmp_path / "adapter_config.json").write_text(json.dumps(said))
  save_file(tensors, tmp_path / "adapter_model.safetensors")
  place = stores.upload(tmp_path, f"{google}/adapter")
  ours, theirs = (adapters.read(x, sizes).lora for x in (tmp_path, place))
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)
