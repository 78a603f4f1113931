"""Adapters to put on a captioner: a run of ours, or a PEFT folder."""

import contextlib
import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from flax import traverse_util

from synpo_jax.models import tree_digest
from synpo_jax.models.config import CaptionerConfig, LoraConfig
from synpo_jax.runtime import buckets
from synpo_jax.runtime.workdir import (
  check_arrays,
  is_run,
  newest,
  reading,
  run_config,
  unreadable,
)
from synpo_jax.weights import stores
from synpo_jax.weights.learned import Learned
from synpo_jax.weights.peft import read_peft


def read(folder: str | pathlib.Path, config: CaptionerConfig) -> Learned:
  """The adapter in a run's workdir or in a PEFT folder, on the host.

  Raises FileNotFoundError or ValueError: one line that names the folder.
  """
  folder = buckets.at(folder)
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

  Raises Unreadable where that is damaged, ValueError for NaN or infinity.
  """
  path = newest(workdir) / "state"
  try:
    with _quiet(), reading():
      trained = _restore(path)
    now = tree_digest.leaves({"trained": trained})
    check_arrays(path.parent, now, "trained/")
  except Exception as error:  # orbax raises this very class, too
    after = "read the one before"
    raise unreadable(path.parent, after, error) from error
  for name, array in traverse_util.flatten_dict(trained, sep="/").items():
    stores.check_finite(array, f"{path.parent}: {name}")
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
  shapes = reader.metadata(str(path)).item_metadata.tree["trained"]
  wanted = {"trained": jax.tree.map(_shape, shapes)}
  as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
  args = ocp.args.PyTreeRestore(
    item=wanted,
    restore_args=jax.tree.map(lambda _: as_numpy, wanted),
    partial_restore=True,
  )
  return reader.restore(str(path), args=args)["trained"]


def _shape(leaf):
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
