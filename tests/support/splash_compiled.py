"""Compiles splash attention for TPU slices where there is no TPU.

Run by splash_compiled_test.py as a process of its own: libtpu wants no other
platform. `v5e:2x2/pairs` is of rows that several pairs share. Prints one JSON
row per slice: the back end that was chosen, and how often each kernel is called
by the compiled gradient of a saved attention.
"""

import json
import re
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from synpo_jax.models import attention
from synpo_jax.models.packed_rows import Pairs, Slots
from synpo_jax.weights.config_reading import captioner_config

SLOTS = Slots(prefix=256, length=128, count=2)
SIZES = captioner_config(
  dict(
    model_type="llama",
    vocab_size=8,
    hidden_size=512,
    intermediate_size=8,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    rms_norm_eps=1e-6,
    max_position_embeddings=512,
  )
).decoder
KERNEL = re.compile(r"splash_mha_(fwd|dq|dkv)\w*")


def compile_for(name):
  """The row of one slice: rows over two chips, heads over two."""
  topology, _, pairs = name.partition("/")
  devices = topologies.get_topology_desc(topology, platform="tpu").devices
  mesh = Mesh(np.array(devices[:4]).reshape(1, 2, 2), ("data", "fsdp", "model"))
  backend = attention.on_mesh("auto", mesh, SIZES, jnp.bfloat16)
  slots = Pairs() if pairs else SLOTS
  policy = jax.checkpoint_policies.save_only_these_names("attended")

  @partial(jax.checkpoint, policy=policy)
  def attend(q, k, v, segments):
    rows = dict(segments=segments, positions=segments, slots=slots)
    return attention.attend(q, k, v, **rows, scale=0.09, backend=backend)

  def loss(*inputs):
    return jnp.sum(jnp.sin(attend(*inputs).astype(jnp.float32)))

  rows = NamedSharding(mesh, P(("data", "fsdp")))
  shape = partial(jax.ShapeDtypeStruct, sharding=rows)
  inputs = [shape((2, 512, n, 128), jnp.bfloat16) for n in (4, 2, 2)]
  gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
  compiled = gradient.lower(*inputs, shape((2, 512), jnp.int32)).compile()
  text = compiled.as_text()
  calls = [line for line in text.splitlines() if "tpu_custom_call" in line]
  kernels = [KERNEL.search(line).group(1) for line in calls]
  return dict(
    slice=name,
    backend=backend.name,
    kernels={kernel: kernels.count(kernel) for kernel in sorted(set(kernels))},
  )


if __name__ == "__main__":
  for slice_name in sys.argv[1:]:
    print(json.dumps(compile_for(slice_name)), flush=True)
