"""A LoRA tree of ours as the folder that PEFT loads."""

import json
import pathlib

import numpy as np
from flax import traverse_util
from safetensors.numpy import save_file

from synpo_jax.models.config import CaptionerConfig
from synpo_jax.weights import tensor_names
from synpo_jax.weights.adapters import Learned


def write(
  folder: pathlib.Path, learned: Learned, config: CaptionerConfig, *, base: str
) -> None:
  """adapter_config.json and adapter_model.safetensors, float32.

  base: where the adapted checkpoint lies, for PEFT's own records.

  Raises ValueError where more than the adapter was trained, or no adapter.
  """
  if learned.params or not learned.lora:
    trained = sorted(traverse_util.flatten_dict(learned.params, sep="/"))
    what = f"trained {trained[0]}" if trained else "has no adapter"
    raise ValueError(
      f"the run {what}{' and more' * (len(trained) > 1)}, a PEFT folder holds "
      "an adapter and nothing else; use --format=merged"
    )
  tensors = {}
  for leaf in tensor_names.leaves(config):
    pair = _at(learned.lora, leaf.path.removesuffix("/kernel"))
    if pair is None or not leaf.path.endswith("/kernel"):
      continue
    for i, stem in enumerate(leaf.stems):
      module = f"base_model.model.{tensor_names.module(stem, config)}"
      for ours, theirs in (("a", "A"), ("b", "B")):
        matrix = np.asarray(pair[ours][i], np.float32).T
        name = f"{module}.lora_{theirs}.weight"
        tensors[name] = np.ascontiguousarray(matrix)
  save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
  said = _config(learned.config, sorted(tensors), config, base)
  (folder / "adapter_config.json").write_text(json.dumps(said, indent=2) + "\n")


def _at(tree: dict, path: str) -> dict | None:
  """The subtree at a path, or None."""
  for name in path.split("/"):
    if name not in tree:
      return None
    tree = tree[name]
  return tree


def _config(lora, tensors, config, base) -> dict:
  """What PEFT reads: names of layers, within the decoder only."""
  modules = sorted({name.split(".")[-3] for name in tensors})
  targets = modules
  if config.connector and config.connector.family != "auroracap":
    # A tower has layers of the same names.
    targets = rf"model\.language_model\..*\.({'|'.join(modules)})"
  return dict(
    peft_type="LORA",
    task_type="CAUSAL_LM",
    base_model_name_or_path=base,
    r=lora.rank,
    lora_alpha=lora.alpha,
    lora_dropout=lora.dropout,
    target_modules=targets,
    bias="none",
    fan_in_fan_out=False,
    inference_mode=True,
  )
