"""What training learned, put back on a captioner: runs and PEFT folders."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import save_file

from synpo_jax.generation import writer
from synpo_jax.models.config import LoraConfig
from synpo_jax.models.lora import merge
from synpo_jax.training import checkpoint
from synpo_jax.weights import adapters
from synpo_jax.weights.config_reading import captioner_config
from tests.support.small_captioner import TINY, config, write_captioner


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("adapters")
  write_captioner(path / "captioner")
  return path


def published_lora(config, rank):
  """A random adapter on q and down: PEFT's tensors by name."""
  rng, tensors = np.random.default_rng(0), {}
  c = config.decoder
  for layer in range(c.layers):
    stem = f"base_model.model.model.layers.{layer}."
    for name, sizes in (
      ("self_attn.q_proj", (c.width, c.heads * c.head_dim)),
      ("mlp.down_proj", (c.mlp_width, c.width)),
    ):
      a = rng.normal(size=(rank, sizes[0])).astype(np.float32)
      b = rng.normal(size=(sizes[1], rank)).astype(np.float32)
      tensors[f"{stem}{name}.lora_A.weight"] = a
      tensors[f"{stem}{name}.lora_B.weight"] = b
  return tensors


def write_peft(folder, tensors, **said):
  folder.mkdir(exist_ok=True)
  held = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "bias": "none"}
  (folder / "adapter_config.json").write_text(json.dumps(held | said))
  save_file(tensors, folder / "adapter_model.safetensors")


def weights_of(folder, adapter):
  """The parameters that a writer of these settings captions with."""
  c = config(folder)
  c.model.adapter = str(adapter)
  opened = writer.open_writer(c.placing.to_dict(), **c.model.to_dict())
  return opened.variables["params"]


def test_a_peft_folder_is_merged_into_the_weights(folder, tmp_path):
  sizes = captioner_config(folder / "captioner")
  tensors = published_lora(sizes, 3)
  write_peft(tmp_path, tensors)
  old, new = weights_of(folder, ""), weights_of(folder, tmp_path)
  for ours, theirs in (
    ("attn/q", "self_attn.q_proj"),
    ("mlp/down", "mlp.down_proj"),
  ):
    block, name = ours.split("/")
    before, after = (p["decoder"]["layers"][block][name] for p in (old, new))
    for layer in range(sizes.decoder.layers):
      stem = f"base_model.model.model.layers.{layer}.{theirs}"
      a, b = (np.float64(tensors[f"{stem}.lora_{x}.weight"]) for x in "AB")
      want = before["kernel"][layer] + 6 / 3 * (b @ a).T
      np.testing.assert_allclose(after["kernel"][layer], want, atol=1e-5)
  np.testing.assert_array_equal(
    old["decoder"]["layers"]["attn"]["k"]["kernel"],
    new["decoder"]["layers"]["attn"]["k"]["kernel"],
  )


@pytest.mark.parametrize(
  "said, renamed, message",
  [
    (dict(use_dora=True), {}, "use_dora=True is not supported"),
    (dict(r=4), {}, "q_proj.lora_A is not of rank 4"),
    (dict(init_lora_weights="pissa"), {}, "'pissa' is not supported"),
    ({}, {"layers.1.self_attn.q": "layers.9.self_attn.q"}, "missing"),
    ({}, {"mlp.down_proj": "mlp.fc9"}, "has no place"),
  ],
)
def test_a_faulty_peft_folder_is_refused(
  folder, tmp_path, said, renamed, message
):
  sizes = captioner_config(folder / "captioner")
  tensors = published_lora(sizes, 3)
  for old, new in renamed.items():
    tensors = {name.replace(old, new): x for name, x in tensors.items()}
  write_peft(tmp_path, tensors, **said)
  with pytest.raises(ValueError, match=message):
    adapters.read(tmp_path, sizes)


def test_a_run_gives_its_newest_adapter(tmp_path):
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 3, 5))
  leaf = {"a": jnp.asarray(a), "b": jnp.asarray(b)}
  trained = {"lora": {"decoder": {"layers": {"attn": {"q": leaf}}}}}
  with checkpoint.open_manager(tmp_path, keep=2) as manager:
    for step in (1, 2):
      old = jax.tree.map(lambda x, s=step: x * s, trained)
      state = {"trained": old, "opt": optax.adam(1e-3).init(old)}
      checkpoint.save(manager, step, state, {})
  held = {"lora": dict(rank=3, alpha=6.0, dropout=0.1)}
  (tmp_path / "config.json").write_text(json.dumps(held))
  learned = adapters.read(tmp_path, captioner_config(TINY))
  assert learned.config == LoraConfig(3, 6.0, 0.1) and not learned.params
  got = learned.lora["decoder"]["layers"]["attn"]["q"]
  np.testing.assert_allclose(got["a"], 2 * a, rtol=1e-6)
  kernel = {"q": {"kernel": np.zeros((2, 4, 5), np.float32)}}
  merged = merge(kernel, {"q": got}, learned.config)["q"]["kernel"]
  np.testing.assert_allclose(merged, 2 * 4 * a @ b, rtol=1e-5, atol=1e-5)


def test_no_adapter_is_said_in_one_line(tmp_path):
  with pytest.raises(FileNotFoundError, match="neither a run's workdir"):
    adapters.read(tmp_path, captioner_config(TINY))
