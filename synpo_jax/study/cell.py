"""One cell of the study: a method trained once, and what it took."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from synpo_jax.models import sharding
from synpo_jax.runtime.compiled_memory import peak_bytes
from synpo_jax.study.grid import Method
from synpo_jax.study.material import Captioner
from synpo_jax.training import optim, pair_logps, train_steps, update
from synpo_jax.weights import learned, loading


class Rate(NamedTuple):
  """Optimiser state of `scaled`: the learning rate of this cell."""

  lr: jax.Array


def scaled(tx):
  """`tx` with its updates times a learning rate that is state, not code.

  AdamW's update is linear in the learning rate, so one compiled step serves
  the whole ladder.
  """
  rate = optax.GradientTransformation(
    lambda params: Rate(jnp.ones(())),
    lambda updates, state, params=None: (
      jax.tree.map(lambda u: u * state.lr, updates),
      state,
    ),
  )
  return optax.chain(tx, rate)


class Bench(NamedTuple):
  """What the cells of a method share; `step` is compiled ahead of time."""

  init: Callable  # an adapter -> the state before its first update
  step: Callable
  peak_bytes: int | None


class Trained(NamedTuple):
  """An adapter, and how it came about.

  rows: those of metrics.jsonl; seen: what `watch` returned, with its step.
  """

  adapter: dict
  rows: list[dict]
  seen: list[dict]


def make_scoring(c, captioner) -> pair_logps.Scoring:
  """How log-probs are computed."""
  return pair_logps.make_scoring(**c.run.step, mesh=captioner.mesh)


def make_bench(c, captioner, method: Method, data) -> Bench:
  """Compiles a method's train step for batches like the first of `data`."""
  settings = dict(c.run.optim) | {"lr": 1.0}
  tx, _ = optim.make(**settings, updates=data.updates)
  tx = scaled(tx)
  objective = update.make_objective(
    captioner.model,
    make_scoring(c, captioner),
    name=method.loss,
    coefficients=method.coefficients,
  )
  step = update.make_train_step(objective, tx, dropout=False)
  start = fresh_adapter(captioner, 0)
  shardings = train_steps.state_shardings(start, tx, captioner.mesh)
  init = train_steps.make_init(tx, shardings)
  out = shardings, sharding.replicated(captioner.mesh)
  jitted = jax.jit(step, donate_argnums=0, out_shardings=out)
  batch = sharding.put_batch(data.batches[0], captioner.mesh)
  given = init.eval_shape(start), {"params": captioner.params}, batch
  compiled = jitted.lower(*given, jax.random.key(0)).compile()
  return Bench(init, compiled, peak_bytes(compiled))


def fresh_adapter(captioner: Captioner, seed: int) -> dict:
  """A new adapter on the mesh; it changes nothing yet."""
  model, mesh = captioner.model, captioner.mesh
  return {"lora": loading.fresh_adapter(model, mesh, seed)}


def merged(captioner: Captioner, adapter: dict) -> Captioner:
  """The captioner with what an adapter learned on its weights."""
  copied = jax.tree.map(jnp.copy, captioner.params)  # those of `apply` are lost
  found = learned.Learned(adapter["lora"], captioner.model.lora, {})
  places = jax.tree.map(lambda leaf: leaf.sharding, copied)
  return captioner._replace(params=learned.apply(copied, found, places))


def see_nothing(step, adapter, batch) -> dict:
  """The `watch` of cells that are merely trained."""
  return {}


def train(
  captioner, bench: Bench, data, lr: float, seed: int, watch=see_nothing
) -> Trained:
  """Trains a fresh adapter on all batches of `data`.

  watch: (updates done, adapter, the next batch) -> values to keep, called
  before every update, and after the last with None for a batch.
  """
  state = bench.init(fresh_adapter(captioner, seed))
  rate = jax.device_put(jnp.float32(lr), sharding.replicated(captioner.mesh))
  state = state.replace(opt=(*state.opt[:-1], Rate(rate)))
  frozen, key = {"params": captioner.params}, jax.random.key(0)
  rows, seen = [], []
  for index in range(len(data.batches)):
    batch = sharding.put_batch(data.batches[index], captioner.mesh)
    seen.append(watch(index, state.trained, batch) | {"step": index})
    start = time.perf_counter()
    state, values = bench.step(state, frozen, batch, key)
    jax.block_until_ready(values)
    seconds = time.perf_counter() - start
    values = {k: float(v) for k, v in jax.device_get(values).items()}
    speed = {"pairs_per_s": values["pairs"] / seconds}
    rows.append({"step": index + 1, **values, **speed})
  seen.append(watch(len(rows), state.trained, None) | {"step": len(rows)})
  seen = [row for row in seen if len(row) > 1]
  return Trained(state.trained, rows, seen)
