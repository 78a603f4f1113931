"""How a step grows, and what must not: time and memory against everything.

python benchmarks/scaling.py --out=benchmarks/results

With the shipped tiny captioner, LoRA, SynPO, prefix shared, on the CPU:

- against pairs in a batch, frames, caption length and (virtual) devices;
- seconds per update with 100, 1,000 and 10,000 rows of pairs, at the start of
  the first epoch and at the end of the last, through the real input pipeline;
- how many pairs the pipeline alone delivers, and the share of an update that
  was spent waiting for it.

Memory is what the compiler says a step needs on one device: weights, state,
batch and temporaries. Writes scaling.json and scaling.png.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.workload import FILES, ROOT

BATCHES, FRAMES = (1, 2, 4, 8), (8, 16, 32, 64)
CAPTIONS, DEVICES, ROWS = (32, 64, 128, 256), (1, 2, 4, 8), (100, 1000, 10000)
USUAL = dict(pairs=2, frames=8, caption=64)  # the rest of a sweep
CLIPS, EPOCHS = 16, 5
VIRTUAL = "--xla_force_host_platform_device_count="


def config(*, rows: pathlib.Path | None = None):
  """The demo's config without its held-out scores; `rows`: a pairs file."""
  from configs import vdc

  c = vdc.get_config()
  c.world.clips, c.epochs = 0, EPOCHS
  c.heldout.pairs, c.every.reward_norms = "", 0
  c.data.update(cache=str(FILES / "shards"), videos=str(FILES / "world"))
  c.data.update(batch_size=4, min_score_gap=None, pairs=str(rows))
  return c


def start(*, devices=1):
  """(config, mesh, model, frozen weights, state, jitted update)."""
  import jax

  from synpo_jax.models import sharding
  from synpo_jax.training import job, train_steps, update
  from synpo_jax.weights import loading

  c = config()
  mesh = sharding.make_mesh(
    data=devices, fsdp=1, model=1, devices=jax.devices()[:devices]
  )
  model = job.make_model(c, mesh)
  variables = loading.load_variables(model, c.model.checkpoint, mesh, c.seed)
  trained, frozen = update.split(variables, c.trainable)
  steps = train_steps.make_steps(c, model, trained, mesh, updates=1000)
  return mesh, model, frozen, steps.init(trained), steps.train


def made_batch(model, *, pairs, frames, caption):
  """One micro-batch of random pairs: nothing is padding."""
  import numpy as np

  from synpo_jax.data.batch import Batch
  from synpo_jax.data.batches import IMAGE_TOKEN

  rng, tower = np.random.default_rng(0), model.config.tower
  image = [IMAGE_TOKEN] * sum(model.config.blocks(frames))
  words = rng.integers(3, model.config.decoder.vocab, (1, pairs, 32))
  prefix = np.broadcast_to(image, (1, pairs, len(image)))
  prefix = np.concatenate([prefix, words], axis=2).astype(np.int32)
  size = (1, pairs, 2, caption)
  pixels = (1, pairs, frames, tower.image_size, tower.image_size, 3)
  return Batch(
    prefix=prefix,
    prefix_mask=np.ones(prefix.shape, bool),
    response=rng.integers(3, 700, size).astype(np.int32),
    response_mask=np.ones(size, bool),
    frames=rng.integers(0, 256, pixels, np.uint8),
    weight=np.ones((1, pairs), np.float32),
    row=np.zeros((1, pairs), np.int32),
  )


def point(started, repeats, **size) -> dict:
  """Seconds and bytes of a step at one size."""
  import jax

  from synpo_jax.models import sharding

  mesh, model, frozen, state, train = started
  batch = sharding.put_batch(made_batch(model, **size), mesh)
  key = jax.random.key(0)
  # The state is given away by every step: this one gives away copies.
  state = jax.tree.map(lambda x: x.copy(), state)
  step = train.lower(state, frozen, batch, key).compile()
  memory, seconds = step.memory_analysis(), []
  for _ in range(repeats + 1):
    begun = time.perf_counter()
    state, _ = jax.block_until_ready(step(state, frozen, batch, key))
    seconds.append(time.perf_counter() - begun)
  needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
  found = dict(
    **size, seconds=statistics.median(seconds[1:]), device_bytes=needed
  )
  print(found, file=sys.stderr, flush=True)
  return found


def sweeps(repeats, most) -> dict:
  """The first points, or all, along each axis; other sizes are USUAL."""
  measured = functools.cache(functools.partial(point, start(), repeats))
  axes = dict(pairs=BATCHES, frames=FRAMES, caption=CAPTIONS)
  return {
    name: [measured(**USUAL | {name: v}) for v in values[:most]]
    for name, values in axes.items()
  }


def on_devices(count, repeats) -> dict:
  """A point with a batch of 8 pairs over `count` devices, in a process."""
  told = f"{os.environ['XLA_FLAGS']} {VIRTUAL}{count}"
  done = subprocess.run(
    [sys.executable, __file__, f"--child={count}", f"--repeats={repeats}"],
    env=dict(os.environ, XLA_FLAGS=told, JAX_PLATFORMS="cpu"),
    cwd=ROOT,
    stdout=subprocess.PIPE,
    check=True,
    text=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def write_rows(count: int) -> pathlib.Path:
  """A file of `count` pairs about the same few clips, rendered once."""
  from synpo_jax.world import folder as world

  folder = FILES / "world"
  world.write_world(
    folder, clips=CLIPS, seed=0, heldout=0, workers=os.cpu_count() or 1
  )
  rows = map(json.loads, (folder / "pairs.jsonl").read_text().splitlines())
  known = list(rows)
  made = [known[i % len(known)] | {"id": str(i)} for i in range(count)]
  path = FILES / f"pairs_{count}.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in made))
  return path


def dataset(count, updates) -> dict:
  """The input pipeline and the update over a data set of `count` rows."""
  from synpo_jax.training import job

  c = config(rows=write_rows(count))
  workdir = FILES / f"scaling_{count}_{os.getpid()}"
  begun = time.perf_counter()
  ready = job.prepare(c, workdir)
  prepared = time.perf_counter() - begun
  last = max(0, ready.data.updates - updates)
  early, state = walk(ready, ready.state, 0, updates)
  late, _ = walk(ready, state, last, updates)
  found = dict(
    rows=count,
    prepare_seconds=prepared,
    first_epoch=early,
    last_epoch=late,
    pipeline_pairs_per_s=deliver(ready, updates),
  )
  print(found, file=sys.stderr, flush=True)
  return found


def walk(ready, state, first, updates):
  """Pairs' seconds and the waiting share of updates from `first` on."""
  import jax

  from synpo_jax.data.stream import Stream
  from synpo_jax.models import sharding
  from synpo_jax.training import metrics

  stream = Stream(ready.data.batches, workers=0)
  stream.set_state({"next": first})
  key, rows = jax.random.key(0), []
  count = min(updates, ready.data.updates)
  clock = metrics.Clock()
  for _ in range(count):
    batch = sharding.put_batch(clock.waiting(next, stream), ready.mesh)
    state, values = ready.steps.train(state, ready.frozen, batch, key)
    values = jax.device_get(values)
    pairs, tokens = float(values["pairs"]), float(values["tokens"])
    rows.append(metrics.rates(pairs, tokens, clock.lap()))
  stream.close()
  rows = rows[2:]  # without the compilation and the start of the readers
  return {
    "seconds_per_pair": statistics.median(1 / r["pairs_per_s"] for r in rows),
    "waiting_share": statistics.median(r["waiting_share"] for r in rows),
  }, state


def deliver(ready, updates) -> float:
  """Pairs a second of the pipeline alone."""
  from synpo_jax.data.stream import Stream

  stream = Stream(ready.data.batches, workers=0)
  next(stream)
  begun = time.perf_counter()
  pairs = sum(next(stream).weight.sum() for _ in range(updates))
  seconds = time.perf_counter() - begun
  stream.close()
  return float(pairs / seconds)


def flags(argv):
  """The command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  add = parser.add_argument
  add("--out", default="benchmarks/results", help="folder for both files")
  add("--repeats", type=int, default=5, help="timed steps of a point")
  add("--updates", type=int, default=20, help="of each data set and epoch")
  add("--quick", action="store_true", help="the two smallest of each kind")
  add("--child", type=int, default=0, help="used inside")
  return parser.parse_args(argv)


def measure(args) -> dict:
  """Everything, as it is written down."""
  from benchmarks import step

  most = 2 if args.quick else None  # points of an axis
  found = sweeps(args.repeats, most)
  counts = DEVICES[:most]
  found["devices"] = [on_devices(n, args.repeats) for n in counts]
  sizes = ROWS[:1] if args.quick else ROWS
  found["rows"] = [dataset(n, args.updates) for n in sizes]
  return found | {"machine": step.machine(), "load": os.getloadavg()[0]}


def main(argv=None):
  """Measures and draws."""
  args = flags(argv)
  if args.child:
    found = point(
      start(devices=args.child), args.repeats, **USUAL | {"pairs": 8}
    )
    print(json.dumps(found | {"devices": args.child}))
    return
  from benchmarks import scaling_figure

  out = pathlib.Path(args.out).resolve()
  out.mkdir(parents=True, exist_ok=True)
  os.chdir(ROOT)
  os.environ["JAX_PLATFORMS"] = "cpu"
  # One device, but for the children's own.
  given = os.environ.get("XLA_FLAGS", "").split()
  kept = (flag for flag in given if not flag.startswith(VIRTUAL))
  os.environ["XLA_FLAGS"] = " ".join(kept)
  found = measure(args)
  (out / "scaling.json").write_text(json.dumps(found, indent=1) + "\n")
  scaling_figure.draw(found, out / "scaling.png")
  print("\n".join(" | ".join(line) for line in scaling_figure.lines(found)))
  print(f"{out}/scaling.json, {out}/scaling.png")


if __name__ == "__main__":
  main()
