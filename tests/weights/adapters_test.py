"""What training learned, put back on a captioner: runs and PEFT folders."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import peft
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


OPTIONS = [  # each non-default, known to PEFT or to nobody
  *(dict(use_dora=True), dict(rank_pattern={"q_proj": 4}), dict(bias="all")),
  *(dict(alpha_pattern={"q_proj": 4}), dict(lora_bias=True)),
  *(dict(modules_to_save=["lm_head"]), dict(fan_in_fan_out=True)),
  *(dict(layer_replication=[[0, 1]]), dict(layers_to_transform=[0])),
  *(dict(trainable_token_indices=[3]), dict(target_parameters=["w"])),
  *(dict(use_bdlora={"a": 1}), dict(init_lora_weights="pissa")),
  *(dict(peft_type="LOHA"), dict(sharpness=2), dict(megatron_config={"a": 1})),
]


@pytest.mark.parametrize("said", OPTIONS, ids=lambda said: next(iter(said)))
def test_an_option_that_is_not_computed_is_refused(folder, tmp_path, said):
  sizes = captioner_config(folder / "captioner")
  write_peft(tmp_path, published_lora(sizes, 3), **said)
  with pytest.raises(ValueError, match="config.json: .* is not sup") as error:
    adapters.read(tmp_path, sizes)
  assert f"{next(iter(said))}=" in str(error.value)


def test_what_peft_writes_by_default_is_read(folder, tmp_path):
  sizes = captioner_config(folder / "captioner")
  tensors = published_lora(sizes, 3)
  chosen = ["q_proj", "down_proj"]
  made = peft.LoraConfig(
    r=3, lora_alpha=8, target_modules=chosen, use_rslora=True
  )
  made.save_pretrained(tmp_path)
  save_file(tensors, tmp_path / "adapter_model.safetensors")
  read = adapters.read(tmp_path, sizes)
  assert read.config == LoraConfig(3, 8 * 3**0.5, 0.0)
  write_peft(tmp_path, tensors, target_modules=[*chosen, "v_proj"])
  with pytest.raises(ValueError, match="lists v_proj, but it has no tensor"):
    adapters.read(tmp_path, sizes)


@pytest.mark.parametrize(
  "said, renamed, message",
  [
    (dict(r=4), {}, "q_proj.lora_A is not of rank 4"),
    (dict(r="3"), {}, "r='3' is no size"),
    (dict(r=0), {}, "r=0 is no size"),
    (dict(lora_alpha=None), {}, "lora_alpha=None is no size"),
    ({}, {"layers.1.self_attn.q": "layers.9.self_attn.q"}, "missing"),
    ({}, {"layers.0.self_attn.q": "layers.9.self_attn.q"}, "missing"),
    ({}, {"mlp.down_proj": "mlp.fc9"}, "has no place"),
    ({}, {"q_proj": "fc1", "down_proj": "fc2"}, "has no place"),
    ({}, {"lora_B": "lora_B.default", "lora_A": "lora_C"}, "has no place"),
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


def test_what_a_peft_folder_holds_besides_is_named(folder, tmp_path):
  sizes = captioner_config(folder / "captioner")
  table = {"base_model.model.model.embed_tokens.weight": np.ones((64, 8))}
  write_peft(tmp_path, published_lora(sizes, 3) | table)
  with pytest.raises(ValueError, match=r"saved embeddings, .*embed_tokens.*64"):
    adapters.read(tmp_path, sizes)
  tensors = published_lora(sizes, 3)
  name = next(iter(tensors))
  other = name.replace(".weight", ".default.weight")
  write_peft(tmp_path, tensors | {other: tensors[name]})
  with pytest.raises(ValueError, match="under another name as well"):
    adapters.read(tmp_path, sizes)
  write_peft(tmp_path, tensors | {name: tensors[name] * np.nan})
  with pytest.raises(ValueError, match="adapter_model.safetensors: .*NaN"):
    adapters.read(tmp_path, sizes)
  (tmp_path / "adapter_model.safetensors").unlink()
  with pytest.raises(FileNotFoundError, match="adapter_model.safetensors"):
    adapters.read(tmp_path, sizes)
  (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
  with pytest.raises(ValueError, match="safe_serialization=True"):
    adapters.read(tmp_path, sizes)


def test_a_run_gives_its_newest_adapter(tmp_path):
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 3, 5))
  leaf = {"a": jnp.asarray(a), "b": jnp.asarray(b)}
  trained = {"lora": {"decoder": {"layers": {"attn": {"q": leaf}}}}}
  held = {"lora": dict(rank=3, alpha=6.0, dropout=0.1)}
  with checkpoint.open_manager(tmp_path, keep=2) as manager:
    for step in (1, 2):
      old = jax.tree.map(lambda x, s=step: x * s, trained)
      state = {"trained": old, "opt": optax.adam(1e-3).init(old)}
      checkpoint.save(manager, step, state, {}, held, {})
  (tmp_path / "config.json").write_text(json.dumps(held))
  learned = adapters.read(tmp_path, captioner_config(TINY))
  assert learned.config == LoraConfig(3, 6.0, 0.1) and not learned.params
  got = learned.lora["decoder"]["layers"]["attn"]["q"]
  np.testing.assert_allclose(got["a"], 2 * a, rtol=1e-6)
  kernel = {"q": {"kernel": np.zeros((2, 4, 5), np.float32)}}
  merged = merge(kernel, {"q": got}, learned.config)["q"]["kernel"]
  np.testing.assert_allclose(merged, 2 * 4 * a @ b, rtol=1e-5, atol=1e-5)


def test_a_run_that_fell_apart_is_named(tmp_path):
  trained = {"lora": {"q": {"a": jnp.full((2, 3), jnp.nan)}}}
  with checkpoint.open_manager(tmp_path, keep=2) as manager:
    checkpoint.save(manager, 1, {"trained": trained}, {}, {}, {})
  with pytest.raises(ValueError, match="/1: lora/q/a: 6 of 6 values are NaN"):
    adapters.read_run(tmp_path)


def test_no_adapter_is_said_in_one_line(tmp_path):
  with pytest.raises(FileNotFoundError, match="neither a run's workdir"):
    adapters.read(tmp_path, captioner_config(TINY))
