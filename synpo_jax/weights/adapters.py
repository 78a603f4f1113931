"""Adapters to put on a captioner: a run of ours, or a PEFT folder."""

import contextlib
import json
import pathlib
import re
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from safetensors import safe_open

from synpo_jax.models import lora as lora_math
from synpo_jax.models.config import CaptionerConfig, LoraConfig
from synpo_jax.training import checkpoint
from synpo_jax.weights import json_file, tensor_names

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


class Learned(NamedTuple):
  """What training changed.

  lora: a tree like variables["lora"], or {}; config: its rank and alpha, or
  None; params: whole weights that were trained, a tree like part of
  variables["params"], or {}.
  """

  lora: dict
  config: LoraConfig | None
  params: dict


def is_run(folder: str | pathlib.Path) -> bool:
  """Whether this is the workdir of a training run of ours."""
  folder = pathlib.Path(folder)
  return (folder / "config.json").exists() and (folder / "checkpoints").is_dir()


def run_config(workdir: str | pathlib.Path) -> dict:
  """The config that a run was started with, as nested dicts."""
  return json.loads((pathlib.Path(workdir) / "config.json").read_text())


def newest(workdir: str | pathlib.Path) -> pathlib.Path:
  """The folder of a run's newest checkpoint, named after its step.

  One that is still being written has another name.
  """
  folder = pathlib.Path(workdir).absolute() / "checkpoints"
  steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
  if not steps:
    raise FileNotFoundError(f"{workdir}: the run has saved no checkpoint yet")
  return folder / str(max(steps))


def read(folder: str | pathlib.Path, config: CaptionerConfig) -> Learned:
  """The adapter in a run's workdir or in a PEFT folder, on the host.

  Raises FileNotFoundError or ValueError: one line that names the folder.
  """
  folder = pathlib.Path(folder)
  if (folder / "adapter_config.json").exists():
    return read_peft(folder, config)
  if is_run(folder):
    return read_run(folder)
  raise FileNotFoundError(
    f"{folder}: neither a run's workdir (config.json, checkpoints/) nor a "
    "PEFT folder (adapter_config.json)"
  )


def read_run(workdir: str | pathlib.Path) -> Learned:
  """What a training run had learned at its newest checkpoint.

  Raises checkpoint.Unreadable where that is damaged.
  """
  path = newest(workdir) / "state"
  try:
    with _quiet():
      trained = _restore(path)
  except Exception as error:  # orbax raises this very class, too
    after = "read the one before"
    raise checkpoint.unreadable(path.parent, after, error) from error
  parts = {"lora": {}, "params": {}, **trained}
  config = LoraConfig(**run_config(workdir)["lora"]) if parts["lora"] else None
  return Learned(parts["lora"], config, parts["params"])


@contextlib.contextmanager
def _quiet():
  """Without the checkpoint library's notes on its own workings."""
  before = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(before)


def _restore(path: pathlib.Path) -> dict:
  """What was trained, on the host; nothing else of a state is read."""
  reader = ocp.PyTreeCheckpointer()
  shapes = reader.metadata(path).item_metadata.tree["trained"]
  wanted = {"trained": jax.tree.map(_shape, shapes)}
  how = ocp.RestoreArgs(restore_type=np.ndarray)
  args = ocp.args.PyTreeRestore(
    item=wanted,
    restore_args=jax.tree.map(lambda _: how, wanted),
    partial_restore=True,
  )
  return reader.restore(path, args=args)["trained"]


def _shape(leaf):
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def read_peft(folder: str | pathlib.Path, config: CaptionerConfig) -> Learned:
  """A PEFT LoRA of the decoder's linear layers; any subset of them.

  Raises ValueError for options that we do not compute, and listing tensors
  that are missing, surplus or misshapen.
  """
  folder = pathlib.Path(folder)
  said = json_file.read(folder / "adapter_config.json")
  for key, plain in PLAIN.items():
    if key in said and said[key] not in plain:
      raise ValueError(
        f"{folder}/adapter_config.json: {key}={said[key]!r} is not supported"
      )
  for key in ("r", "lora_alpha"):
    if key not in said:
      raise ValueError(f"{folder}/adapter_config.json: {key} is missing")
  rank, alpha = said["r"], float(said["lora_alpha"])
  if "use_rslora" in said and said["use_rslora"]:
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
  found = {}
  with safe_open(path, framework="np") as file:
    for name in file.keys():
      short = name.removeprefix("base_model.model.")
      short = re.sub(r"(\.default)?\.weight$", "", short)
      found[tensor_names.published(short, config)] = file.get_tensor(name)
  return found


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


def apply(params: dict, learned: Learned, shardings: dict) -> dict:
  """`params` with what was learned merged in, leaf by leaf in its place.

  shardings: a tree like params. Raises ValueError where shapes do not fit.
  """
  params = _replace(params, learned.params, shardings, "")
  if not learned.lora:
    return params

  def merge(decoder, tree):
    return lora_math.merge(decoder, tree, learned.config)

  decoder, tree = params["decoder"], learned.lora["decoder"]
  _check_shapes(decoder, tree, "decoder")
  merged = jax.jit(merge, donate_argnums=0, out_shardings=shardings["decoder"])(
    decoder, tree
  )
  return {**params, "decoder": merged}


def _check_shapes(params, tree, path):
  for name, inner in tree.items():
    at = f"{path}/{name}"
    if "a" not in inner:
      _check_shapes(params[name], inner, at)
      continue
    shape = params[name]["kernel"].shape
    a, b = inner["a"].shape, inner["b"].shape
    if (*a[:2], b[2]) != shape or a[2] != b[1] or a[0] != b[0]:
      raise ValueError(
        f"the adapter's {at} {a} x {b} does not fit the weight {shape}; "
        "it was made for another model"
      )


def _replace(params, new, shardings, path):
  out = dict(params)
  for name, value in new.items():
    at = f"{path}/{name}"
    if isinstance(value, dict):
      out[name] = _replace(params[name], value, shardings[name], at)
    elif value.shape != params[name].shape:
      raise ValueError(
        f"the run's params{at} {value.shape} does not fit the checkpoint's "
        f"{params[name].shape}; it was made for another model"
      )
    else:
      cast = value.astype(params[name].dtype)
      out[name] = jax.device_put(cast, shardings[name])
  return out
