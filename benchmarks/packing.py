"""What rows that pairs share take beside rows of their own: an epoch of each.

python -m benchmarks.packing           writes its table into README.md here

SmolLM2's sizes with an adapter of rank 128, text alone, pairs with lengths as
`benchmarks.padding` draws them, SynPO. Of each way an epoch is run, updates of
few pairs, compiled before; ways take turns, the least of each counts. Models
of few layers are run; a layer's time is the difference of two, and all layers'
is reckoned from it.
"""

import os
import time

import jax
import numpy as np
from absl import app, flags

from benchmarks import padding, sections, workload
from configs import text_pairs
from synpo_jax.data import batches, packing, token_rows
from synpo_jax.data import padding as buckets
from synpo_jax.models import initial, sharding
from synpo_jax.training import job, train_steps
from synpo_jax.weights import loading

EPOCHS = flags.DEFINE_integer("epochs", 1, "Timed epochs of each.")
PAIRS = flags.DEFINE_integer("pairs", 24, "Pairs of an epoch.")
SIZE = flags.DEFINE_string("size", "smollm2_135m", "A key of workload.SIZES.")
LAYERS = (1, 2)
WAYS = (0, 4096)  # rows of their own, or positions of a shared row
WORKLOADS = ((8, 230, 90), (None, 230, 90))


def pairs(work, vocab: int) -> token_rows.Rows:
  """Drawn tokens, as long as the first of a workload's pairs."""
  prefix, captions, _ = (x[: PAIRS.value] for x in padding.rows(*work))
  rng = np.random.default_rng(0)
  draw = lambda n: rng.integers(3, vocab, n).tolist()  # noqa: E731
  return token_rows.Rows(
    token_rows.ragged([draw(n) for n in prefix]),
    token_rows.ragged([draw(n) for n in captions.ravel()]),
    pair=np.arange(len(prefix)),
    video=np.full(len(prefix), -1),
    frames=np.zeros(len(prefix), int),
    captions=2,
  )


def epoch(rows: token_rows.Rows, length: int) -> batches.Batches:
  """Updates of a pair in its bucket, or of one row that pairs share."""
  sizes = buckets.joined(buckets.bucket_sizes(rows, 16, 32, (8,)), 2, 8)
  own = dict(batch_size=1, accumulation=1, seed=0)
  packs = packing.make(rows, length, **own, shards=1, ids=rows.pair.astype(str))
  own |= dict(process_index=0, process_count=1, visual_key="features")
  return batches.Batches(rows, sizes, None, epochs=1, packing=packs, **own)


class Run:
  """A model of so many layers, and what its updates take."""

  def __init__(self, layers: int):
    c = text_pairs.get_config("loss=synpo")
    c.model.arch = workload.SIZES[SIZE.value] | dict(num_hidden_layers=layers)
    c.model.update(dtype="float32", remat="none")
    one = dict(data=1, fsdp=1, model=1, devices=jax.devices()[:1])
    self.mesh = sharding.make_mesh(**one)
    model = job.make_model(c, self.mesh)
    shapes = loading.abstract_variables(model, self.mesh)
    trained = {"lora": shapes["lora"]}
    self.steps = train_steps.make_steps(
      c, model, trained, self.mesh, updates=10**6
    )
    self.state = self.steps.init({"lora": initial.adapter(model, 1)})
    self.frozen = {"params": initial.params(model, 0)}

  def seconds(self, data: batches.Batches) -> float:
    """Of all updates of an epoch, reading of rows not counted."""
    total = 0.0
    for index in range(len(data)):
      batch = sharding.put_batch(data[index], self.mesh)
      start = time.perf_counter()
      given = self.state, self.frozen, batch, jax.random.key(0)
      self.state, metrics = self.steps.train(*given)
      jax.block_until_ready((self.state, metrics))
      total += time.perf_counter() - start
    return total


def timed(work) -> dict[tuple[int, int], float]:
  """(layers, way) -> the least seconds of an epoch."""
  rows = pairs(work, workload.SIZES[SIZE.value]["vocab_size"])
  runs = {layers: Run(layers) for layers in LAYERS}
  found = {}
  for turn in range(1 + EPOCHS.value):  # the first compiles
    for layers, run in runs.items():
      for way in WAYS:
        took = run.seconds(epoch(rows, way))
        if turn:
          at = layers, way
          found[at] = min(took, found.get(at, took))
  return found


def share(rows: token_rows.Rows, way: int) -> float:
  """Needed over computed positions of an epoch."""
  data, needed = epoch(rows, way), packing.lengths(rows).sum()
  if way:
    return needed / (len(data) * way)
  sizes = data.sizes
  return needed / (sizes[:, 0] + 2 * sizes[:, 1]).sum()


def line(work, found) -> list[list[str]]:
  """Rows of the table, one for each way."""
  frames, mean, deviation = work
  name = f"{frames or '8 to 16'}, {mean} ± {deviation}"
  rows = pairs(work, 99)
  few, more = LAYERS
  every = workload.SIZES[SIZE.value]["num_hidden_layers"]
  whole = {}
  for way in WAYS:
    low, high = found[few, way], found[more, way]
    whole[way] = low + (every - few) * (high - low) / (more - few)
  return [
    [
      name,
      f"rows of {way}" if way else "rows of their own",
      f"{share(rows, way):.3f}",
      *(f"{found[n, way] / PAIRS.value:.2f}" for n in LAYERS),
      f"{whole[way] / PAIRS.value:.2f}",
      f"{whole[way] / whole[0]:.2f}",
    ]
    for way in WAYS
  ]


def main(_):
  head = ["frames, caption", "pairs in", "needed / computed"]
  head += [f"s a pair, layers: {n}" for n in LAYERS]
  table = [[*head, "30 layers", "of rows of their own"]]
  for work in WORKLOADS:
    table += line(work, timed(work))
  load = f"\n\nLoad of the machine at the end: {os.getloadavg()[0]:.1f}."
  sections.put(sections.README, "packing", sections.table(table) + load)
  print(sections.table(table) + load)


if __name__ == "__main__":
  app.run(main)
