"""Our train step, as benchmarks/step.py measures it.

python -m benchmarks.step_ours TASK          answers `child.serve`'s lines
python -m benchmarks.step_ours --weights SIZE RANK DTYPE    random weights
"""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import child, workload
from configs import text_pairs
from synpo_jax.data.batch import Batch
from synpo_jax.models import captioner, initial, sharding
from synpo_jax.models import config as sizes
from synpo_jax.training import job, train_steps, update
from synpo_jax.weights import adapters, config_reading, folders, loading, peft
from synpo_jax.weights.learned import Learned

# Implementation -> loss and layout. The DPO rows score the reference in every
# step; `dpo` is two sequences, as in the official release.
IMPLS = {
  "synpo_shared": ("synpo", "shared"),
  "synpo_two_sequence": ("synpo", "two_sequence"),
  "dpo": ("dpo", "two_sequence"),
  "dpo_shared": ("dpo", "shared"),
  "simpo_shared": ("simpo", "shared"),
}


def config(task: workload.Task, adapter: sizes.LoraConfig):
  """The text recipe's config, for this measurement."""
  loss, layout = IMPLS[task.impl]
  c = text_pairs.get_config(f"loss={loss}")
  c.model.update(checkpoint=f"{task.folder}/base", dtype=task.dtype)
  c.lora.update(rank=adapter.rank, alpha=adapter.alpha, dropout=task.dropout)
  c.optim.warmup_frac = 0.0
  c.step.layout_name = layout
  c.update_from_flattened_dict(task.overrides)
  return c


def batch(task: workload.Task) -> Batch:
  """One micro-batch, [1, B, ...]."""
  prompts, captions = workload.pair(task)
  B = len(prompts)
  return Batch(
    prefix=prompts[None].astype(np.int32),
    prefix_mask=np.ones((1, *prompts.shape), bool),
    response=captions[None].astype(np.int32),
    response_mask=np.ones((1, *captions.shape), bool),
    weight=np.ones((1, B), np.float32),
    row=np.arange(B, dtype=np.int32)[None],
  )


def make(task: workload.Task):
  """Returns (a function that makes one update, facts), for `child.serve`."""
  sized = config_reading.captioner_config(f"{task.folder}/base")
  learned = adapters.read(f"{task.folder}/adapter", sized)
  c = config(task, learned.config)
  mesh = sharding.make_mesh(data=1, fsdp=1, model=1, devices=jax.devices()[:1])
  model = job.make_model(c, mesh)
  variables = loading.load_variables(model, c.model.checkpoint, mesh, c.seed)
  places = jax.tree.map(lambda leaf: leaf.sharding, variables["lora"])
  variables["lora"] = jax.device_put(learned.lora, places)
  trained, frozen = update.split(variables, c.trainable)
  steps = train_steps.make_steps(c, model, trained, mesh, updates=10**6)
  state = steps.init(trained)
  rows = sharding.put_batch(batch(task), mesh)
  key = jax.random.key(0)
  compiled = steps.train.lower(state, frozen, rows, key).compile()
  holder = [state]
  del variables, trained, state, learned

  def step():
    holder[0], metrics = compiled(holder[0], frozen, rows, key)
    jax.block_until_ready(holder[0])
    names = ("loss", "grad_norm", "chosen_logp", "rejected_logp")
    numbers = {name: float(metrics[name]) for name in names}
    return numbers | device_peak()

  return step, facts(c, compiled)


def device_peak() -> dict:
  """Most bytes held on an accelerator; nothing on the CPU."""
  stats = jax.local_devices()[0].memory_stats()
  return {"device_bytes": stats["peak_bytes_in_use"]} if stats else {}


def facts(c, compiled) -> dict:
  """Versions and what the compiler says it needs."""
  memory = compiled.memory_analysis()
  return dict(
    versions=f"jax {jax.__version__}",
    remat=c.model.remat,
    temp_bytes=memory.temp_size_in_bytes,
    argument_bytes=memory.argument_size_in_bytes,
  )


def write_weights(size: str, rank: int, dtype: str) -> None:
  """Random weights as other programs read them: `base`, and an `adapter`.

  The adapter's second matrices are not zero, so that it shows in the loss.
  """
  folder = workload.weights_folder(size, rank, dtype)
  wanted = config_reading.captioner_config(workload.SIZES[size])
  adapter = sizes.LoraConfig(rank=rank, alpha=rank / 2, dropout=0.0)
  model = captioner.Captioner(wanted, adapter)
  made = folder.with_name(f"{folder.name}.{os.getpid()}")
  params = initial.params(model, 0, dtype=jnp.dtype(dtype))
  folders.save(made / "base", wanted, params)
  keys = iter(jax.random.split(jax.random.key(1), 1000))
  drawn = jax.tree.map(
    lambda leaf: leaf if jnp.any(leaf) else _small(next(keys), leaf.shape),
    initial.adapter(model, 0),
  )
  (made / "adapter").mkdir()
  peft.write(
    made / "adapter",
    Learned(drawn, adapter, {}),
    wanted,
    base=str(folder / "base"),
  )
  made.rename(folder)


def _small(key, shape):
  return 0.02 * jax.random.normal(key, shape)


if __name__ == "__main__":
  if sys.argv[1] == "--weights":
    write_weights(sys.argv[2], int(sys.argv[3]), sys.argv[4])
  else:
    child.serve(make)
