"""Loading never holds a model twice: peak memory of a real process."""

import json
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from synpo_jax.models import names, stores
from synpo_jax.models.captioner import Captioner, shapes
from synpo_jax.models.config import captioner_config

# VmHWM, because ru_maxrss would count the test process that forks.
PEAK = """
import re, sys
import jax, jax.numpy as jnp
from synpo_jax.models import weights
def status(key):
  with open("/proc/self/status") as f:
    return int(re.search(rf"{key}:\\s+(\\d+) kB", f.read())[1]) * 1024
jax.block_until_ready(jnp.zeros(3) + 1)
before = status("VmRSS")
_, params = weights.load(sys.argv[1], dtype=jnp.bfloat16)
jax.block_until_ready(params)
own = sum(x.nbytes for x in jax.tree.leaves(params))
print(before, status("VmHWM"), own)
"""


def write_random(folder, hf):
  """A random checkpoint, written tensor by tensor. Returns largest bytes."""
  config = captioner_config(hf)
  (folder / "config.json").write_text(json.dumps(hf))
  wanted = shapes(Captioner(config))["params"]
  table = {}
  for leaf in names.leaves(config):
    shape = wanted
    for key in leaf.path.split("/"):
      shape = shape[key]
    one = leaf.published_shape(shape.shape, flax=False)
    table |= dict.fromkeys(leaf.names(flax=False), one)
  rng = np.random.default_rng(0)
  draws = (rng.random(shape, np.float32) - 0.5 for shape in table.values())
  stores.write_safetensors(
    folder / "model.safetensors", table, jnp.bfloat16, draws
  )
  return max(int(np.prod(shape)) * 2 for shape in table.values())


def peak_over_shards(folder, layers):
  """(bytes above the model's own, largest tensor, the model's own)."""
  hf = dict(
    model_type="llama",
    tie_word_embeddings=False,
    vocab_size=8000,
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=layers,
    num_attention_heads=8,
    num_key_value_heads=2,
  )
  largest = write_random(folder, hf)
  out = subprocess.run(
    [sys.executable, "-c", PEAK, str(folder)],
    cwd=pathlib.Path(__file__).parents[1],
    capture_output=True,
    text=True,
    check=True,
  )
  before, peak, own = map(int, out.stdout.split())
  return peak - before - own, largest, own


def test_peak_host_memory(tmp_path):
  """A 300-MB model never stands twice in memory (measured: 98 MB above)."""
  above, largest, own = peak_over_shards(tmp_path, 9)
  assert own > 290e6
  assert above < largest + 120e6


@pytest.mark.slow
def test_peak_host_memory_of_a_large_model(tmp_path):
  """2 GB: its largest tensor and 500 MB above its own shards at most
  (measured: 123 MB, of which the largest tensor is 16)."""
  above, largest, own = peak_over_shards(tmp_path, 64)
  assert own > 1.9e9
  assert above < largest + 500e6
