"""A LoRA tree of ours as the folder that PEFT loads."""

import json
import pathlib
import re

import numpy as np
from flax import traverse_util
from safetensors.numpy import save_file

from synpo_jax.models.config import PARTS, CaptionerConfig, LoraConfig
from synpo_jax.runtime import buckets, hub
from synpo_jax.weights import (
  peft_options,
  safetensors_files,
  stores,
  tensor_names,
)
from synpo_jax.weights.learned import Learned


def write(
  folder: pathlib.Path, learned: Learned, config: CaptionerConfig, *, base: str
) -> None:
  """adapter_config.json and adapter_model.safetensors, float32.

  base: where the adapted checkpoint lies, for PEFT's own records.

  Raises ValueError where more than the adapter was trained, or no adapter, or
  one on parts that Transformers' class does not have.
  """
  if learned.params or not learned.lora:
    trained = sorted(traverse_util.flatten_dict(learned.params, sep="/"))
    what = f"trained {trained[0]}" if trained else "has no adapter"
    raise ValueError(
      f"the run {what}{' and more' * (len(trained) > 1)}, a PEFT folder holds "
      "an adapter and nothing else; use --format=merged"
    )
  family = config.connector and config.connector.family
  seeing = sorted(set(learned.lora) - {"decoder"})
  if seeing and family in tensor_names.UNWRAPPED:
    raise ValueError(
      f"the run has an adapter on the {' and the '.join(seeing)}; Transformers "
      f"has no class of {family} with these, so PEFT cannot put it there; use "
      "--format=merged"
    )
  tensors, targets = {}, []
  for leaf in tensor_names.leaves(config):
    pair = _at(learned.lora, leaf.path.removesuffix("/kernel"))
    if pair is None or not leaf.path.endswith("/kernel"):
      continue
    modules = _modules(leaf, pair, config)
    targets.append(_pattern(list(modules)))
    for module, matrices in modules.items():
      for theirs, matrix in zip("AB", matrices, strict=True):
        name = f"base_model.model.{module}.lora_{theirs}.weight"
        matrix = np.asarray(matrix, np.float32).T
        stores.check_finite(matrix, f"the run's {name}")
        tensors[name] = np.ascontiguousarray(matrix)
  save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
  options = _config(learned.config, targets, config, base)
  text = json.dumps(options, indent=2)
  (folder / "adapter_config.json").write_text(f"{text}\n")


def _modules(leaf, pair: dict, config: CaptionerConfig) -> dict[str, tuple]:
  """{name of a module: (a, b)} of a linear layer, or of a stack's last ones."""
  if not leaf.stacked:
    return {tensor_names.module(leaf.stems[0], config): (pair["a"], pair["b"])}
  stems = leaf.stems[len(leaf.stems) - len(pair["a"]) :]
  names = (tensor_names.module(stem, config) for stem in stems)
  return dict(zip(names, zip(pair["a"], pair["b"], strict=True), strict=True))


def _pattern(modules: list[str]) -> str:
  """What matches these names, which differ in one number, and no others."""
  first, *others = (name.split(".") for name in modules)
  parts = [re.escape(part) for part in first]
  for place, numbers in enumerate(zip(first, *others, strict=True)):
    if len(set(numbers)) > 1:
      parts[place] = f"({'|'.join(numbers)})"
  return r"\.".join(parts)


def _at(tree: dict, path: str) -> dict | None:
  """The subtree at a path, or None."""
  for name in path.split("/"):
    if name not in tree:
      return None
    tree = tree[name]
  return tree


def _config(lora, targets, config, base) -> dict:
  """What PEFT reads: names of layers, or patterns of whole names."""
  if config.connector and config.connector.family != "auroracap":
    targets = "|".join(targets)  # a tower has layers of the decoder's names
  else:
    targets = sorted({target.rpartition(".")[2] for target in targets})
  named = base.partition("@") if hub.is_name(base) else (base, "", "")
  return dict(
    peft_type="LORA",
    task_type="CAUSAL_LM",
    base_model_name_or_path=named[0],
    revision=named[2] or None,
    r=lora.rank,
    lora_alpha=lora.alpha,
    lora_dropout=lora.dropout,
    target_modules=targets,
    bias="none",
    fan_in_fan_out=False,
    inference_mode=True,
  )


BINARY = (
  "has a pickled adapter only (adapter_model.bin), which can run code when "
  "read; convert it where you trust it: load it with PEFT and call "
  "save_pretrained(folder, safe_serialization=True)"
)
ADAPTED = r"((decoder|tower)/layers/\w+/\w+|projector/(\w+/)?fc\d)/kernel"
EMBEDDINGS = re.compile(r"(.*\.)?(embed_tokens|lm_head)(\.base_layer)?")


def read_peft(folder: str | pathlib.Path, config: CaptionerConfig) -> Learned:
  """A PEFT LoRA of linear layers; any subset of them, of a tower's the last.

  Raises ValueError for options that we do not compute, for embeddings saved
  with it, and listing tensors that are missing, surplus or misshapen.
  """
  folder = buckets.at(folder)
  said = peft_options.read(folder)
  tensors = _tensors(folder, config)
  tree, faults = {}, []
  for leaf in tensor_names.leaves(config):
    place = re.fullmatch(ADAPTED, leaf.path)
    module = leaf.stems[0].rpartition(".")[2]
    if place and any(f"{stem}.lora_A" in tensors for stem in leaf.stems):
      *above, last = place[1].split("/")
      node = tree
      for name in above:
        node = node.setdefault(name, {})
      node[last] = {
        ours: _stack(tensors, leaf, f".lora_{theirs}", said["rank"], faults)
        for ours, theirs in (("a", "A"), ("b", "B"))
      }
    elif place and _is_target(module, said["targets"], leaf):
      faults.append(f"target_modules lists {module}, but it has no tensor")
  faults += [f"{name} has no place" for name in sorted(tensors)]
  if faults or not tree:
    raise ValueError(
      f"{folder}: {'; '.join(faults[:5]) or 'holds no LoRA tensor'}"
      + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
    )
  where = tuple(part for part in PARTS if part in tree)
  return Learned(tree, LoraConfig(said["rank"], said["alpha"], 0.0, where), {})


def _is_target(module: str, targets: list | None, leaf) -> bool:
  """Whether PEFT would adapt a layer of the decoder; others may be excluded."""
  if not leaf.path.startswith("decoder/"):
    return False
  names = [str(name).rpartition(".")[2] for name in targets or ()]
  return module in names


def _tensors(folder, config) -> dict[str, np.ndarray]:
  """{published module name + ".lora_A" or ".lora_B": array}."""
  path = folder / "adapter_model.safetensors"
  if not path.exists() and (folder / "adapter_model.bin").exists():
    raise ValueError(f"{folder} {BINARY}")
  if not path.exists():
    raise FileNotFoundError(f"{path}: no such file")
  tensors = {}
  for name, span in safetensors_files.spans(path).items():
    short = name.removeprefix("base_model.model.")
    short = re.sub(r"(\.default)?\.weight$", "", short)
    short = tensor_names.published(short, config)
    if EMBEDDINGS.fullmatch(short):
      raise ValueError(
        f"{path}: holds saved embeddings, {name} {span.shape}, which are not "
        "read from an adapter; save it again with save_embedding_layers=False "
        "if its vocabulary is the checkpoint's, else merge it with PEFT "
        "(merge_and_unload, then save_pretrained) and use that checkpoint"
      )
    if short in tensors:
      raise ValueError(f"{path}: {name} is there under another name as well")
    tensors[short] = span.read()
  return tensors


def _stack(tensors, leaf, end, rank, faults):
  """Takes one matrix per layer out of `tensors`: float32 [L, in, out].

  Of a tower those from the first that is there on; [in, out] for a layer that
  is no stack.
  """
  layers, stems = [], leaf.stems
  if leaf.path.startswith("tower/"):
    first = [stem + end in tensors for stem in stems].index(True)
    stems = stems[first:]
  for stem in stems:
    if stem + end not in tensors:
      faults.append(f"{stem}{end} is missing")
      continue
    matrix = tensors.pop(stem + end)
    if matrix.ndim != 2 or matrix.shape[end == ".lora_B"] != rank:
      faults.append(f"{stem}{end} is not of rank {rank}")
    layers.append(matrix.T.astype(np.float32))
  if len({layer.shape for layer in layers}) != 1:
    faults.append(f"{leaf.stems[0]}{end}: its layers differ in shape")
    return None
  return np.stack(layers) if leaf.stacked else layers[0]
