"""What an update of each method costs, measured one after the other."""

import os
import statistics
import time

import jax
import jax.numpy as jnp

from synpo_jax import losses
from synpo_jax.models import sharding
from synpo_jax.study import cell, grid, material

ROUNDS = 9  # updates of each method, all methods once in a round


def measure(c, captioner, ground, pairs, bench) -> list[dict]:
  """Rows {method, seconds_per_step, spread, peak_bytes, load}.

  seconds_per_step: the median; spread: from the first to the third quartile;
  peak_bytes: what the compiler planned; load: of the machine at the end, so
  that a reader sees whether it did something else.
  """
  methods = [grid.parse(name, c.losses.to_dict()) for name in c.methods]
  ready = [_ready(c, captioner, ground, pairs, bench, one) for one in methods]
  seconds = [[] for _ in methods]
  for _ in range(ROUNDS):
    for times, once in zip(seconds, ready, strict=True):
      start = time.perf_counter()
      once()
      times.append(time.perf_counter() - start)
  rows = []
  for method, times, once in zip(methods, seconds, ready, strict=True):
    low, _, high = statistics.quantiles(times, n=4)
    rows.append(
      {
        "method": method.name,
        "seconds_per_step": statistics.median(times),
        "spread": [low, high],
        "peak_bytes": once.peak_bytes,
        "pairs": c.run.data.batch_size,
        "load": os.getloadavg()[0],
      }
    )
  return rows


def _ready(c, captioner, ground, pairs, bench, method):
  """An update of the method, compiled, and run once."""
  data = material.read_data(
    c,
    captioner,
    ground,
    pairs,
    captions=losses.make(method.loss, method.coefficients).captions,
  )
  compiled = bench(captioner, method, data)
  batch = sharding.put_batch(data.batches[0], captioner.mesh)
  frozen, key = {"params": captioner.params}, jax.random.key(0)
  state = compiled.init(cell.fresh_adapter(captioner, 0))
  rate = jax.device_put(jnp.float32(1e-4), sharding.replicated(captioner.mesh))
  held = [state.replace(opt=(*state.opt[:-1], cell.Rate(rate)))]

  def once():
    held[0], values = compiled.step(held[0], frozen, batch, key)
    jax.block_until_ready(values)

  once()
  once.peak_bytes = compiled.peak_bytes
  return once
