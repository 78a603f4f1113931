"""A LoRA tree of ours as the folder that PEFT loads."""

import json
import pathlib
import re

import numpy as np
from flax import traverse_util
from safetensors import safe_open
from safetensors.numpy import save_file

from synpo_jax.models.config import CaptionerConfig, LoraConfig
from synpo_jax.weights import json_file, tensor_names
from synpo_jax.weights.learned import Learned


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
  options = _config(learned.config, sorted(tensors), config, base)
  text = json.dumps(options, indent=2)
  (folder / "adapter_config.json").write_text(f"{text}\n")


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


# What PEFT can say in adapter_config.json and we do not compute, with the
# values that mean it is not used.
PLAIN = {
  "peft_type": ("LORA",),
  "use_dora": (False, None),
  "rank_pattern": ({}, None),
  "alpha_pattern": ({}, None),
  "bias": ("none", None),
  "modules_to_save": ([], None),
  "fan_in_fan_out": (False, None),
  "layers_to_transform": ([], None),
  "layer_replication": ([], None),
  "lora_bias": (False, None),
  "use_qalora": (False, None),
  "alora_invocation_tokens": ([], None),
  # Other starts take from the base what the adapter holds.
  "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),
}


def read_peft(folder: str | pathlib.Path, config: CaptionerConfig) -> Learned:
  """A PEFT LoRA of the decoder's linear layers; any subset of them.

  Raises ValueError for options that we do not compute, and listing tensors
  that are missing, surplus or misshapen.
  """
  folder = pathlib.Path(folder)
  options = json_file.read(folder / "adapter_config.json")
  for key, plain in PLAIN.items():
    if key in options and options[key] not in plain:
      raise ValueError(
        f"{folder}/adapter_config.json: {key}={options[key]!r} is not supported"
      )
  for key in ("r", "lora_alpha"):
    if key not in options:
      raise ValueError(f"{folder}/adapter_config.json: {key} is missing")
  rank, alpha = options["r"], float(options["lora_alpha"])
  if "use_rslora" in options and options["use_rslora"]:
    alpha *= rank**0.5  # alpha / sqrt(rank), in our alpha / rank
  tensors = _tensors(folder, config)
  tree, faults = {}, []
  for leaf in tensor_names.leaves(config):
    place = re.fullmatch(r"(decoder/layers/\w+/\w+)/kernel", leaf.path)
    if place and f"{leaf.stems[0]}.lora_A" in tensors:
      *above, last = place[1].split("/")
      node = tree
      for name in above:
        node = node.setdefault(name, {})
      node[last] = {
        ours: _stack(tensors, leaf.stems, f".lora_{theirs}", rank, faults)
        for ours, theirs in (("a", "A"), ("b", "B"))
      }
  faults += [f"{name} has no place" for name in sorted(tensors)]
  if faults or not tree:
    raise ValueError(
      f"{folder}: {'; '.join(faults[:5]) or 'holds no LoRA tensor'}"
      + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
    )
  return Learned(tree, LoraConfig(rank, alpha, 0.0), {})


def _tensors(folder, config) -> dict[str, np.ndarray]:
  """{published module name + ".lora_A" or ".lora_B": array}."""
  path = folder / "adapter_model.safetensors"
  if not path.exists():
    raise FileNotFoundError(f"{path}: no such file")
  tensors = {}
  with safe_open(path, framework="np") as file:
    for name in file.keys():
      short = name.removeprefix("base_model.model.")
      short = re.sub(r"(\.default)?\.weight$", "", short)
      tensors[tensor_names.published(short, config)] = file.get_tensor(name)
  return tensors


def _stack(tensors, stems, end, rank, faults):
  """Takes one matrix per layer out of `tensors`: float32 [L, in, out]."""
  layers = []
  for stem in stems:
    if stem + end not in tensors:
      faults.append(f"{stem}{end} is missing")
      continue
    layers.append(tensors.pop(stem + end).T.astype(np.float32))
    if layers[-1].shape[1 if end == ".lora_A" else 0] != rank:
      faults.append(f"{stem}{end} is not of rank {rank}")
  if len({layer.shape for layer in layers}) != 1:
    faults.append(f"{stems[0]}{end}: its layers differ in shape")
    return None
  return np.stack(layers)
