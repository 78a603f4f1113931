"""Peak host memory of loading a checkpoint, against what it may be.

python -m benchmarks.loading --gigabytes=2 --files=5 --devices=1,4

Writes a random Llama checkpoint in bfloat16, in several files as published
ones are, and loads it in a process of its own: on one device, or with weights
sharded (fsdp) over so many virtual CPU devices. The whole process may take
its shards, the largest tensor and 500 MB.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from absl import app, flags
from rich.console import Console
from rich.table import Table

from synpo_jax.weights import config_reading, safetensors_files

GIGABYTES = flags.DEFINE_float("gigabytes", 2.0, "Size of the checkpoint.")
FILES = flags.DEFINE_integer("files", 5, "safetensors files that it comes in.")
DEVICES = flags.DEFINE_list("devices", ["1", "4"], "Devices; a run each.")
BASES = flags.DEFINE_list("bases", ["float", "int8"], "model.base; a run each.")
CHILD = flags.DEFINE_list("child", None, "Folder and base; used inside.")

SHAPES = dict(
  model_type="llama",
  tie_word_embeddings=False,
  vocab_size=8000,
  hidden_size=1024,
  intermediate_size=4096,
  num_attention_heads=8,
  num_key_value_heads=2,
)
ENDS = 32.8e6  # bytes of embedding and head
LAYER = 30.4e6  # and of a layer
ROOM = 500e6
MB = 1e6


def write_random(folder: pathlib.Path, gigabytes: float, files: int) -> int:
  """A random checkpoint, tensor by tensor; returns the largest one's bytes."""
  import jax.numpy as jnp
  import numpy as np

  from synpo_jax.models import captioner
  from synpo_jax.weights import tensor_names

  layers = round((gigabytes * 1e9 - ENDS) / LAYER)
  hf = SHAPES | dict(num_hidden_layers=layers)
  (folder / "config.json").write_text(json.dumps(hf))
  sizes = config_reading.captioner_config(hf)
  wanted = captioner.shapes(captioner.Captioner(sizes))["params"]
  table = {}
  for leaf in tensor_names.leaves(sizes):
    shape = wanted
    for key in leaf.path.split("/"):
      shape = shape[key]
    one = leaf.published_shape(shape.shape, flax=False)
    table |= dict.fromkeys(leaf.names(flax=False), one)
  rng, where = np.random.default_rng(0), {}
  for i in range(files):
    part = dict(list(table.items())[i::files])
    file = f"model-{i + 1:05}-of-{files:05}.safetensors"
    draws = (rng.random(shape, np.float32) - 0.5 for shape in part.values())
    safetensors_files.write(folder / file, part, jnp.bfloat16, draws)
    where |= dict.fromkeys(part, file)
  index = folder / "model.safetensors.index.json"
  index.write_text(json.dumps({"weight_map": where}))
  return max(2 * int(np.prod(shape)) for shape in table.values())


def load(folder: str, base: str) -> dict:
  """Loads as training does; bytes of this process, and seconds."""
  import jax
  import jax.numpy as jnp

  from synpo_jax.models import sharding
  from synpo_jax.weights import loading

  mesh = sharding.make_mesh(data=1, fsdp=-1, model=1)
  model = loading.make_model(
    checkpoint=folder,
    arch={},
    kept_ratio=None,
    dtype="bfloat16",
    base=base,
    remat="none",
    attention="xla",
    adapter=dict(rank=0),
    mesh=mesh,
  )
  jax.block_until_ready(jnp.zeros(3) + 1)
  before, start = resident("VmRSS"), time.perf_counter()
  params = loading.load_variables(model, folder, mesh, 0)["params"]
  leaves = jax.block_until_ready(jax.tree.leaves(params))
  shards = (s.data.nbytes for x in leaves for s in x.addressable_shards)
  return dict(
    before=before,
    own=sum(shards),
    peak=resident("VmHWM"),
    seconds=time.perf_counter() - start,
  )


def resident(key: str) -> int:
  """VmRSS or VmHWM in bytes; ru_maxrss would count the process that forks."""
  status = pathlib.Path("/proc/self/status").read_text()
  return int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) * 1024


def measure(folder: pathlib.Path, devices: int, base: str) -> dict:
  """`load` in a process of its own."""
  flag = f"--xla_force_host_platform_device_count={devices}"
  out = subprocess.run(
    [sys.executable, "-m", "benchmarks.loading", f"--child={folder},{base}"],
    cwd=pathlib.Path(__file__).parents[1],
    env=os.environ | {"XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  if out.returncode:
    raise ValueError(f"loading failed: {out.stderr.strip()[-400:]}")
  return dict(devices=devices, base=base) | json.loads(out.stdout)


def cells(row: dict, largest: int) -> list[str]:
  """A line of the table."""
  numbers = row["own"], largest, row["peak"], row["own"] + largest + ROOM
  name = f"{row['base']}, {row['devices']} device{'s' * (row['devices'] > 1)}"
  return [name, *(f"{x / MB:.0f}" for x in numbers), f"{row['seconds']:.1f}"]


def main(argv):
  """Writes, measures, prints the table."""
  if len(argv) > 1:
    sys.exit(f"error: unexpected arguments {' '.join(argv[1:])}")
  if CHILD.value:
    return print(json.dumps(load(*CHILD.value)))
  columns = ("base", "shards MB", "largest", "peak", "may be", "seconds")
  table = Table(*columns, title=f"Loading {GIGABYTES.value:g} GB")
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    largest = write_random(folder, GIGABYTES.value, FILES.value)
    for devices in DEVICES.value:
      for base in BASES.value:
        row = measure(folder, int(devices), base)
        print(json.dumps(row | {"largest": largest}), flush=True)
        table.add_row(*cells(row, largest))
  Console().print(table)


if __name__ == "__main__":
  app.run(main)
