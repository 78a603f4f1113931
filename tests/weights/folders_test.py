"""Weights in and out: every published form gives the same tree, and faults
are all named before anything is read."""

import json
import shutil

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from synpo_jax.models import initial, sharding
from synpo_jax.models.captioner import Captioner, shapes
from synpo_jax.weights import folders
from synpo_jax.weights.config_reading import captioner_config
from tests.support.read_folder import read_folder

VISION = dict(
  hidden_size=24,
  num_hidden_layers=3,
  num_attention_heads=3,
  image_size=28,
  patch_size=7,
)
TEXT = dict(
  vocab_size=64,
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  rope_theta=500.0,
  tie_word_embeddings=False,
)


def randomise(model):
  torch.manual_seed(0)
  with torch.no_grad():
    for value in model.parameters():
      value.copy_(torch.randn_like(value) * 0.3)
  return model.eval()


def equal(ours, theirs):
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  """A Llama published by torch: (torch model, folder, config, params)."""
  model = randomise(
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT))
  )
  folder = tmp_path_factory.mktemp("text")
  model.save_pretrained(folder)
  return model, folder, *read_folder(folder)


def port(flax_class, folder):
  """Torch's weights in a Flax port, which lets ranks be promoted."""
  with jax.numpy_rank_promotion("allow"):
    return flax_class.from_pretrained(folder, from_pt=True)


@pytest.fixture(scope="module")
def ported(text):
  """The language model's weights in Transformers' Flax port."""
  return port(transformers.FlaxLlamaForCausalLM, text[1])


@pytest.mark.slow
def test_flax_port_params(text, ported):
  """The port's tree loads as it is, and ours is right where it is wrong."""
  model, _, config, params = text
  equal(folders.from_flax(config, ported.params, dtype=jnp.float32), params)
  tokens = np.random.default_rng(0).integers(0, 64, (1, 12)).astype(np.int32)
  with torch.no_grad():
    right = model(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
  ours = jax.jit(lambda p, t: Captioner(config).apply({"params": p}, None, t))(
    params, tokens
  )
  assert np.abs(right).max() > 1
  np.testing.assert_allclose(ours, right, atol=2e-5)
  with jax.numpy_rank_promotion("allow"):
    wrong = ported(tokens).logits  # it takes rope_theta for 10,000
  assert np.abs(wrong - right).max() > 1e-2
  tied = captioner_config(
    dict(model_type="llama", **TEXT) | dict(tie_word_embeddings=True)
  )  # the port leaves a random head beside the table
  found = folders.from_flax(tied, ported.params, dtype=jnp.float32)
  assert "head" not in found["decoder"]


@pytest.mark.slow
def test_flax_files(text, ported, tmp_path, monkeypatch):
  """One msgpack file, several, and arrays that flax cuts in chunks."""
  _, _, _, params = text
  ported.save_pretrained(tmp_path / "one")
  ported.save_pretrained(tmp_path / "many", max_shard_size="20KB")
  assert len(list((tmp_path / "many").glob("*.msgpack"))) > 2
  monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 1000)
  ported.save_pretrained(tmp_path / "chunks")
  for name in ("one", "many", "chunks"):
    equal(read_folder(tmp_path / name)[1], params)
  file = tmp_path / "one" / "flax_model.msgpack"
  whole = file.read_bytes()
  for length in (len(whole) - 10, 3, 0):
    file.write_bytes(whole[:length])
    with pytest.raises(ValueError, match="flax_model.msgpack: cut off"):
      read_folder(tmp_path / "one")


TOWERS = {
  "clip": (transformers.CLIPVisionModel, transformers.FlaxCLIPVisionModel),
  "dinov2": (transformers.Dinov2Model, transformers.FlaxDinov2Model),
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", list(TOWERS))
def test_towers_from_torch_and_flax(layout, text, ported, tmp_path):
  """AuroraCap's layout: a language model, visual_encoder/, projector/."""
  torch_class, flax_class = TOWERS[layout]
  extra = {} if layout == "dinov2" else dict(intermediate_size=40)
  config = torch_class.config_class(**VISION, **extra)
  tower = randomise(torch_class(config))
  shutil.copytree(text[1], tmp_path, dirs_exist_ok=True)
  tower.save_pretrained(tmp_path / "visual_encoder")
  write_projector(tmp_path / "projector")
  config, params = read_folder(tmp_path)
  check_shorter_names(tmp_path, params)
  ends = {str(2 * i): params["projector"][f"fc{i}"] for i in range(2)}
  flax_params = folders.from_flax(
    config,
    ported.params,
    tower=port(flax_class, tmp_path / "visual_encoder").params,
    projector={"model": ends},
    dtype=jnp.float32,
  )
  equal(flax_params, params)
  folders.save(tmp_path / "again", config, params)
  config_again, again = read_folder(tmp_path / "again")
  equal(again, params)
  assert config_again == config
  check_torch_reads(tmp_path / "again", torch_class, tower, config)


def check_shorter_names(folder, params):
  """A tower as Transformers 5 writes it loads too."""
  file = folder / "visual_encoder" / "model.safetensors"
  tensors = load_file(file)
  short = {k.removeprefix("vision_model."): v for k, v in tensors.items()}
  save_file(short, file, {"format": "pt"})
  equal(read_folder(folder)[1], params)
  save_file(tensors, file, {"format": "pt"})


def write_projector(folder):
  folder.mkdir()
  rng = np.random.default_rng(1)
  tensors = {
    "model.0.weight": rng.normal(size=(32, 24)),
    "model.0.bias": rng.normal(size=32),
    "model.2.weight": rng.normal(size=(32, 32)),
    "model.2.bias": rng.normal(size=32),
  }
  tensors = {name: x.astype(np.float32) for name, x in tensors.items()}
  save_file(tensors, folder / "model.safetensors")
  hf = dict(visual_hidden_size=24, llm_hidden_size=32, depth=2)
  (folder / "config.json").write_text(
    json.dumps(hf | dict(hidden_act="gelu", bias=True))
  )


def check_torch_reads(folder, torch_class, tower, config):
  """What we wrote is a checkpoint to torch: nothing missing but norms."""
  llm, found = transformers.LlamaForCausalLM.from_pretrained(
    folder, output_loading_info=True
  )
  assert not found["missing_keys"] and not found["unexpected_keys"]
  again = torch_class.from_pretrained(folder / "visual_encoder")
  pixels = torch.randn(1, 3, 28, 28)
  with torch.no_grad():
    wanted = tower(pixels, output_hidden_states=True).hidden_states
    states = again(pixels, output_hidden_states=True).hidden_states
  assert len(states) == config.tower.tap + 1
  assert torch.equal(states[-1], wanted[config.tower.tap])


def test_faults_are_named_together(text, tmp_path):
  shutil.copytree(text[1], tmp_path, dirs_exist_ok=True)
  tensors = load_file(tmp_path / "model.safetensors")
  del tensors["model.layers.1.mlp.up_proj.weight"]
  tensors["model.norm.weight"] = np.ones(33, np.float32)
  tensors["model.extra.weight"] = np.ones(2, np.float32)
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(
    4, np.float32
  )
  tensors["vision_model.embeddings.pos_emb"] = np.ones(4, np.float32)
  tensors["vision_model.embeddings.position_ids"] = np.ones(4, np.int32)
  save_file(tensors, tmp_path / "model.safetensors")
  with pytest.raises(ValueError) as error:
    read_folder(tmp_path)
  lines = str(error.value).splitlines()
  assert [line.strip() for line in lines[1:]] == [
    "shape: model.norm.weight is (33,), not (32,)",
    "missing: model.layers.1.mlp.up_proj.weight (48, 32)",
    "surplus: model.extra.weight (2,)",
  ]


def test_many_faults_are_counted_and_both_kinds_shown(text, tmp_path):
  shutil.copytree(text[1], tmp_path, dirs_exist_ok=True)
  others = {f"a{i:02}": np.ones(2, np.float32) for i in range(30)}
  save_file(others, tmp_path / "model.safetensors")
  with pytest.raises(ValueError) as error:
    read_folder(tmp_path)
  lines = str(error.value).splitlines()
  assert lines[1].startswith("  missing: ") and len(lines) <= 43
  assert lines[-2:] == ["  surplus: a19 (2,)", "  … and 10 more"]


def test_a_head_beside_tied_embeddings(text, tmp_path):
  """One that is the table goes; another is never dropped without a word."""
  shutil.copytree(text[1], tmp_path, dirs_exist_ok=True)
  said = json.loads((tmp_path / "config.json").read_text())
  said["tie_word_embeddings"] = True
  (tmp_path / "config.json").write_text(json.dumps(said))
  with pytest.raises(ValueError) as error:
    read_folder(tmp_path)
  assert "lm_head.weight differs from model.embed_tokens" in str(error.value)
  tensors = load_file(tmp_path / "model.safetensors")
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
  save_file(tensors, tmp_path / "model.safetensors")
  assert "head" not in read_folder(tmp_path)[1]["decoder"]


def test_unreadable_folders(text, tmp_path):
  with pytest.raises(FileNotFoundError, match="config.json"):
    read_folder(tmp_path)
  shutil.copy(text[1] / "config.json", tmp_path)
  with pytest.raises(FileNotFoundError, match="no model.safetensors"):
    read_folder(tmp_path)
  (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
  with pytest.raises(ValueError, match="safe_serialization=True"):
    read_folder(tmp_path)
  whole = (text[1] / "model.safetensors").read_bytes()
  (tmp_path / "model.safetensors").write_bytes(whole[:-100])
  with pytest.raises(ValueError, match="or cut off .*not fully covered"):
    read_folder(tmp_path)
  (tmp_path / "model.safetensors").write_bytes(b"no tensors here")
  with pytest.raises(ValueError, match="not a safetensors file"):
    read_folder(tmp_path)
  (tmp_path / "model.safetensors.index.json").write_text("{}")
  with pytest.raises(ValueError, match="index.json: no weight_map"):
    read_folder(tmp_path)
  (tmp_path / "model.safetensors.index.json").unlink()
  (tmp_path / "model.safetensors.index.json").write_bytes(bytes(64))
  with pytest.raises(ValueError, match="index.json: no JSON"):
    read_folder(tmp_path)
  (tmp_path / "config.json").write_text('{"model_type": ')
  with pytest.raises(ValueError, match="config.json: no JSON"):
    read_folder(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("small", [0, folders.SMALL])
def test_placed_on_a_mesh(text, small, monkeypatch):
  """Each device holds its slice, cast; layers stacked on either way."""
  monkeypatch.setattr(folders, "SMALL", small)
  _, folder, config, params = text
  mesh = sharding.make_mesh(data=1, fsdp=4, model=2)
  tree = {"params": shapes(Captioner(config))["params"]}
  places = sharding.tree_shardings(tree, mesh)["params"]
  placed = folders.load(folder, config, dtype=jnp.bfloat16, shardings=places)
  up = placed["decoder"]["layers"]["mlp"]["up"]["kernel"]
  assert up.sharding == places["decoder"]["layers"]["mlp"]["up"]["kernel"]
  assert up.addressable_shards[0].data.shape == (2, 32 // 4, 48 // 2)
  equal(placed, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))


def test_random_start():
  """Small normal kernels; norms begin as the identity: Gemma's at zero."""
  model = Captioner(captioner_config(dict(model_type="gemma2", **TEXT)))
  decoder = initial.params(model, 0, dtype=jnp.bfloat16)["decoder"]
  assert not decoder["layers"]["mlp_norm"]["scale"].any()
  up = decoder["layers"]["mlp"]["up"]["kernel"]
  assert up.dtype == jnp.bfloat16
  assert abs(float(jnp.std(up.astype(jnp.float32))) - 0.02) < 2e-3
