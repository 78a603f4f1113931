"""What a PEFT folder's `adapter_config.json` says, as far as we compute it."""

import math
import pathlib

from synpo_jax.runtime import json_file

READ = ("r", "lora_alpha", "use_rslora", "target_modules")
# Records, or how tensors were started, trained and chosen: they are as read.
SILENT = (
  *("auto_mapping", "base_model_name_or_path", "inference_mode", "revision"),
  *("peft_version", "task_type", "lora_dropout", "runtime_config"),
  *("exclude_modules", "layers_pattern", "megatron_core", "qalora_group_size"),
  *("corda_config", "eva_config", "loftq_config", "lora_ga_config"),
)
EMPTY = (None, False, {}, [], "")
# Every other option must be empty, whether we know it or not, but for these.
PLAIN = {
  "peft_type": ("LORA",),
  "bias": ("none", None),
  # Other starts take from the base what the adapter holds.
  "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),
}


def read(folder: pathlib.Path) -> dict:
  """{"rank": int, "alpha": float, "targets": names or None} of a folder.

  alpha is that of alpha / rank. targets: what `target_modules` lists, None
  where it is a pattern or less is meant by it. Raises ValueError, naming the
  file and the option, for one that we do not compute or do not know.
  """
  path = folder / "adapter_config.json"
  options = json_file.read(path)
  for key, value in options.items():
    fixed = key not in READ + SILENT
    if fixed and value not in PLAIN.get(key, EMPTY):
      raise ValueError(
        f"{path}: {key}={value!r} is not supported; merge the adapter with "
        "PEFT (merge_and_unload, then save_pretrained) and name that folder "
        "as the checkpoint"
      )
  for key in ("r", "lora_alpha"):
    if key not in options:
      raise ValueError(f"{path}: {key} is missing")
    if not _is_positive(options[key], whole=key == "r"):
      raise ValueError(f"{path}: {key}={options[key]!r} is no size")
  rank, alpha = options["r"], float(options["lora_alpha"])
  if options.get("use_rslora"):
    alpha *= rank**0.5  # alpha / sqrt(rank), in our alpha / rank
  targets = options.get("target_modules")
  listed = isinstance(targets, list) and not options.get("exclude_modules")
  return dict(rank=rank, alpha=alpha, targets=targets if listed else None)


def _is_positive(value, whole: bool) -> bool:
  kinds = (int,) if whole else (int, float)
  return type(value) in kinds and math.isfinite(value) and value > 0
