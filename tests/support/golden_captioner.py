"""The golden captioners as checkpoint folders and trees of ours."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import LoraConfig
from tests.support.paths import GOLDEN
from tests.support.read_folder import read_folder

PARTS = {
  "llm": "",
  "visual_encoder": "visual_encoder",
  "projector": "projector",
}


def read_captioner(letter, folder):
  """(golden file, captioner, its variables): `a` or `b` with its adapter."""
  z = np.load(GOLDEN / f"captioner_{letter}.npz")
  write_folder(z, folder)
  config, params = read_folder(folder)
  tower = dataclasses.replace(config.tower, kept_ratio=float(z["kept_ratio"]))
  config = dataclasses.replace(config, tower=tower)
  adapter = LoraConfig(int(z["lora_rank"]), float(z["lora_alpha"]), 0.05)
  lora = lora_tree(z, "lora/", config.decoder.layers)
  variables = {"params": params, "lora": jax.tree.map(jnp.asarray, lora)}
  return z, Captioner(config, lora=adapter), variables


def write_folder(z, folder):
  """A golden file's weights as a published folder, float16 as stored."""
  configs = {
    "llm": "llm_config",
    "visual_encoder": "visual_config",
    "projector": "projector_config",
  }
  for part, place in PARTS.items():
    (folder / place).mkdir(exist_ok=True)
    tensors = {
      name.removeprefix(part + "/"): z[name]
      for name in z.files
      if name.startswith(part + "/")
    }
    save_file(tensors, folder / place / "model.safetensors")
    (folder / place / "config.json").write_text(str(z[configs[part]]))


def lora_tree(z, prefix, layers):
  """peft's names to our tree: a [L, in, r], b [L, r, out]."""
  tree = {"attn": {}, "mlp": {}}
  places = {"self_attn": "attn", "mlp": "mlp"}
  for name in z.files:
    if not name.startswith(prefix) or ".layers.0." not in name:
      continue
    block, module, which = name.split(".layers.0.")[1].split(".")[:3]
    leaf = {"lora_A": "a", "lora_B": "b"}[which]
    stack = [
      z[name.replace(".layers.0.", f".layers.{i}.")].T for i in range(layers)
    ]
    ours = tree[places[block]].setdefault(module.removesuffix("_proj"), {})
    ours[leaf] = np.stack(stack).astype(np.float32)
  return {"decoder": {"layers": tree}}


def expand(ids, tokens):
  """Every -200 repeated once per visual token of a frame."""
  return np.concatenate([[i] * (tokens if i == -200 else 1) for i in ids])
