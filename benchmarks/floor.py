"""What a step must spend: FLOPs and bytes at each shape, and the machine's
own speed to hold them against.

A multiply and an add are two FLOPs. `needed` counts what the loss and its
gradient need of the layers: every token once through the base weights forward
and once backward (the base is frozen, so it has no gradient of its own), the
adapter forward, backward and its gradients, causal attention without what is
hidden, and the head on the captions' tokens alone.

python benchmarks/floor.py        measures the machine, into results/floor.json
"""

import json
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import workload


def tokens(shape: workload.Shape, shared: bool) -> int:
  """Positions that go through the decoder for a pair."""
  copies = 1 if shared else 2
  return copies * shape.prefix + 2 * shape.response


def seen(shape: workload.Shape, shared: bool) -> int:
  """Pairs of a query and a key that it sees, in one layer and head."""
  P, R = shape
  own, prefix = R * (R + 1) // 2, P * (P + 1) // 2
  return (1 if shared else 2) * prefix + 2 * (R * P + own)


def weights(size: str, rank: int) -> tuple[int, int]:
  """Elements of all base kernels, and of the adapter, in the layers."""
  c = workload.SIZES[size]
  D, F = c["hidden_size"], c["intermediate_size"]
  head = D // c["num_attention_heads"]
  q, kv = D, c["num_key_value_heads"] * head
  sides = [(D, q), (D, kv), (D, kv), (q, D), (D, F), (D, F), (F, D)]
  layers = c["num_hidden_layers"]
  base = sum(a * b for a, b in sides)
  return layers * base, layers * sum(rank * (a + b) for a, b in sides)


def needed(size: str, rank: int, shape, *, shared: bool, reference: bool):
  """{part: FLOPs} of one step of one pair."""
  c = workload.SIZES[size]
  base, adapter = weights(size, rank)
  T = tokens(shape, shared)
  scored = 2 * shape.response
  scores = 2 * seen(shape, shared) * c["hidden_size"] * c["num_hidden_layers"]
  head = 2 * scored * c["hidden_size"] * c["vocab_size"]
  parts = dict(
    base=2 * 2 * T * base,  # forward, and the gradient of its input
    adapter=3 * 2 * T * adapter,  # and the gradient of its weights
    attention=6 * scores,  # two products forward, four backward
    head=2 * head,
  )
  if reference:
    parts["reference"] = 2 * T * base + 2 * scores + head
  return parts


def least_bytes(size: str, rank: int) -> int:
  """Float32 that a step reads or writes at least: base weights forward and
  backward, the table, the adapter four times, its gradient and moments."""
  base, adapter = weights(size, rank)
  c = workload.SIZES[size]
  table = c["vocab_size"] * c["hidden_size"]
  return 4 * (2 * base + 2 * table + 8 * adapter)


def machine(seconds: float = 2.0) -> dict:
  """GFLOP/s of a large float32 product and GB/s of a copy, best seen."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  product = jax.jit(lambda a, b: a @ b)
  a, b = jnp.ones((1568, 576)), jnp.ones((576, 1536))
  fastest = best(lambda: product(a, b).block_until_ready(), seconds)
  source = np.ones(2**26, np.float32)
  target = np.empty_like(source)
  copy = best(lambda: np.copyto(target, source), seconds)
  return dict(
    gflops=2 * 1568 * 576 * 1536 / fastest / 1e9,
    gbytes=2 * source.nbytes / copy / 1e9,
  )


def best(work, seconds: float) -> float:
  """Seconds of the fastest of many runs."""
  work()
  times, end = [], time.perf_counter() + seconds
  while time.perf_counter() < end:
    start = time.perf_counter()
    work()
    times.append(time.perf_counter() - start)
  return min(times)


def main():
  """Measures the machine and writes what it found."""
  os.environ["JAX_PLATFORMS"] = "cpu"
  found = machine() | {"least_bytes": least_bytes("smollm2_135m", 128)}
  path = pathlib.Path(__file__).with_name("results") / "floor.json"
  path.parent.mkdir(exist_ok=True)
  path.write_text(json.dumps(found, indent=1) + "\n")
  print(json.dumps(found))


if __name__ == "__main__":
  main()
