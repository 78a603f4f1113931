"""What further captions behind one prompt cost: a list's step and a pair's.

python -m benchmarks.lists             writes its table into README.md here
python -m benchmarks.lists --rounds=0  counts alone, and prints them

SmolLM2's sizes with an adapter of rank 128, one prompt of 1168 tokens with
captions of 200, `synpo_list` (with two captions `synpo`) in the shared layout.
FLOPs are those of matrix products in the compiled step of 30 layers, loops
counted as often as they run; nothing of that size is run. Timed are steps of
few layers, interleaved, the least of each; a layer's time is the difference.
"""

import os
import time

import jax
import numpy as np
from absl import app, flags

from benchmarks import sections, workload
from configs import text_pairs
from synpo_jax.data.batch import Batch
from synpo_jax.models import initial, sharding
from synpo_jax.planning import costs
from synpo_jax.training import job, train_steps, update
from synpo_jax.weights import loading

ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed steps of each; 0: none.")
SIZE = flags.DEFINE_string("size", "smollm2_135m", "A key of workload.SIZES.")
SHAPE = flags.DEFINE_string("shape", "1168:200", "Prompt and caption, tokens.")
COUNTS, TIMED, LAYERS = (2, 4, 10, 16), (2, 10), (2, 4)


def config(size: str, layers: int, captions: int):
  """The text recipe with the list's loss, or for two captions the pair's."""
  c = text_pairs.get_config(f"loss={'synpo_list' if captions > 2 else 'synpo'}")
  c.model.arch = workload.SIZES[size] | dict(num_hidden_layers=layers)
  c.model.update(dtype="float32", remat="none")
  c.lora.dropout = 0.0
  return c


def batch(size: str, shape: workload.Shape, captions: int) -> Batch:
  """One prompt and its captions, without padding, [1, 1, ...]."""
  rng = np.random.default_rng(0)
  vocab = workload.SIZES[size]["vocab_size"]
  draw = lambda *size: rng.integers(3, vocab, size).astype(np.int32)  # noqa: E731
  prefix = draw(1, 1, shape.prefix)
  response = draw(1, 1, captions, shape.response)
  scores = np.linspace(9, 0, captions, dtype=np.float32)[None, None]
  return Batch(
    prefix=prefix,
    prefix_mask=prefix > 0,
    response=response,
    response_mask=response > 0,
    weight=np.ones((1, 1), np.float32),
    row=np.zeros((1, 1), np.int32),
    scores=scores if captions > 2 else None,
  )


class Run:
  """A compiled step, and with weights what it makes of a batch."""

  def __init__(self, layers: int, captions: int):
    size, shape = SIZE.value, workload.shape(SHAPE.value)
    c = config(size, layers, captions)
    mesh = sharding.make_mesh(
      data=1, fsdp=1, model=1, devices=jax.devices()[:1]
    )
    self.model = job.make_model(c, mesh)
    self.batch = sharding.put_batch(batch(size, shape, captions), mesh)
    trained, self.frozen = update.split(self._shapes(mesh), c.trainable)
    self.steps = train_steps.make_steps(
      c, self.model, trained, mesh, updates=10**6
    )
    given = self.steps.init.eval_shape(trained), self.frozen, self.batch
    key = jax.eval_shape(lambda: jax.random.key(0))
    self.compiled = self.steps.train.lower(*given, key).compile()

  def _shapes(self, mesh):
    return loading.abstract_variables(self.model, mesh)

  def flops(self) -> float:
    """Of matrix products, of one update."""
    return costs.count(self.compiled.as_text()).flops

  def open(self) -> None:
    """Draws weights."""
    lora = initial.adapter(self.model, 1)
    self.state = self.steps.init({"lora": lora})
    self.frozen = {"params": initial.params(self.model, 0)}

  def seconds(self) -> float:
    """Of one update."""
    start = time.perf_counter()
    given = self.state, self.frozen, self.batch, jax.random.key(0)
    self.state, metrics = self.compiled(*given)
    jax.block_until_ready((self.state, metrics))
    return time.perf_counter() - start


def counted() -> dict[int, float]:
  """Captions -> FLOPs of an update of the whole model."""
  layers = workload.SIZES[SIZE.value]["num_hidden_layers"]
  return {captions: Run(layers, captions).flops() for captions in COUNTS}


def timed(rounds: int) -> dict[tuple[int, int], float]:
  """(layers, captions) -> the least seconds of `rounds` updates."""
  runs = {(n, k): Run(n, k) for n in LAYERS for k in TIMED}
  for run in runs.values():
    run.open()
    run.seconds()
  rows = [
    {at: run.seconds() for at, run in runs.items()} for _ in range(rounds)
  ]
  return {at: min(row[at] for row in rows) for at in runs}


def table(flops: dict, seconds: dict) -> str:
  """Both, beside those of a pair."""
  few, more = LAYERS
  every = workload.SIZES[SIZE.value]["num_hidden_layers"]
  rows = [["captions", "GFLOP, 30 layers", "of a pair's", "a caption"]]
  rows[0] += [f"s, {few} layers", f"s, {more}", "30 layers, of a pair's"]
  whole = {}
  for k in COUNTS:
    cells = [str(k), f"{flops[k] / 1e9:.0f}", f"{flops[k] / flops[2]:.2f}"]
    cells.append(f"{flops[k] / k / (flops[2] / 2):.2f}")
    if (few, k) in seconds:
      low, high = seconds[few, k], seconds[more, k]
      whole[k] = low + (every - few) * (high - low) / (more - few)
      cells += [f"{low:.2f}", f"{high:.2f}", f"{whole[k] / whole[2]:.2f}"]
    else:
      cells += ["", "", ""]
    rows.append(cells)
  return sections.table(rows)


def main(_):
  flops = counted()
  for captions, count in flops.items():
    print(f"{captions} captions: {count / 1e9:.1f} GFLOP", flush=True)
  if ROUNDS.value:
    found = table(flops, timed(ROUNDS.value))
    load = f"\n\nLoad of the machine at the end: {os.getloadavg()[0]:.1f}."
    sections.put(sections.README, "lists", found + load)


if __name__ == "__main__":
  app.run(main)
