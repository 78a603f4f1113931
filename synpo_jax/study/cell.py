"""One cell of the study: a method trained once, and what became of it."""

import functools
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from synpo_jax import losses
from synpo_jax.evaluation import shapes
from synpo_jax.generation import batch_captions
from synpo_jax.models import sharding
from synpo_jax.study import material
from synpo_jax.study.grid import Method
from synpo_jax.training import heldout, job, optim, pair_logps, update
from synpo_jax.training.memory import peak_bytes
from synpo_jax.weights import loading
from synpo_jax.world.scores import KEYS


class Rate(NamedTuple):
  """Optimiser state of `scaled`: the learning rate of this cell."""

  lr: jax.Array


def scaled(tx):
  """`tx` with its updates times a learning rate that is state, not code.

  AdamW's update is linear in the learning rate, so one compiled step serves
  the whole grid.
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
  reward_norms: Callable | None  # None for losses of one caption
  peak_bytes: int | None


class Trained(NamedTuple):
  """An adapter, and how it came about; `rows` are those of metrics.jsonl."""

  adapter: dict
  rows: list[dict]
  seconds_per_step: float  # the median update, the first of several left out


class Meter(NamedTuple):
  """What measures any adapter: compiled once for all methods."""

  captioner: material.Captioner
  score: Callable  # heldout.make_scorer's
  data: dict[str, dict]  # split -> {"pairs", "references"} batches
  scenes: dict
  splits: dict[str, list[str]]
  new_tokens: int


def make_meter(c, captioner, shared: material.Material) -> Meter:
  """Reads the validation and test data and jits what scores it."""
  read = functools.partial(
    material.read_data,
    c,
    captioner,
    features=shared.features,
    epochs=1,
    seed=0,
  )
  data = {
    split: {
      "pairs": read(rows=shared.pairs[split], captions=2),
      "references": read(rows=shared.references[split], captions=1),
    }
    for split in ("validation", "test")
  }
  scoring, mesh = _scoring(c, captioner), captioner.mesh
  return Meter(
    captioner,
    heldout.make_scorer(captioner.model, scoring, mesh),
    data,
    shared.scenes,
    shared.splits,
    c.candidates.new,
  )


def _scoring(c, captioner) -> pair_logps.Scoring:
  return pair_logps.make_scoring(**c.run.step, mesh=captioner.mesh)


def measure(
  meter: Meter, trained, frozen, split: str
) -> tuple[list[dict], dict]:
  """(rows by clip, scores) of an adapter on the clips of a split."""
  data, mesh = meter.data[split], meter.captioner.mesh
  pairs, texts = (
    heldout.score_pairs(meter.score, trained, frozen, data[kind], mesh)
    for kind in ("pairs", "references")
  )
  captions = write_captions(meter, update.merge(trained, frozen), split)
  scenes = {name: meter.scenes[name] for name in meter.splits[split]}
  rows, scores = shapes.score(scenes, captions)
  return rows, {
    **{name: scores[name] for key in KEYS for name in (key, f"{key}_se")},
    "order_accuracy": scores["order_accuracy"],
    "ranking_accuracy": pairs["accuracy"],
    "chosen_logp": pairs["chosen_logp"],
    "rejected_logp": pairs["rejected_logp"],
    "margin": pairs["margin"],
    "language_logp": texts["chosen_logp"],
    "distinct_n": scores["distinct_2"],
    "distinct_1": scores["distinct_1"],
    "repetition": scores["repetition"],
  }


def write_captions(meter: Meter, variables, split: str) -> dict[str, str]:
  """Greedy captions of the clips of a split."""
  captioner, data = meter.captioner, meter.data[split]["references"]
  captions = batch_captions.greedy(
    captioner.model,
    variables,
    data,
    most=len(data.pairs),
    max_new_tokens=meter.new_tokens,
    mesh=captioner.mesh,
    **captioner.texts._asdict(),
  )
  return {material.video_id(name): text for name, text in captions.items()}


def make_norms(c, captioner):
  """Returns loss -> jitted reward norms, None for losses of one caption.

  There are two rewards (`update.make_reward_norms`), so two programs serve
  all losses.
  """

  @functools.cache
  def jitted(name):
    return jax.jit(
      update.make_reward_norms(
        captioner.model, _scoring(c, captioner), name=name
      ),
      out_shardings=sharding.replicated(captioner.mesh),
    )

  def norms(loss):
    if losses.captions(loss) == 1:
      return None
    return jitted("dpo" if loss in losses.NEEDS_REFERENCE else "synpo")

  return norms


def make_bench(c, captioner, method: Method, data, start, norms) -> Bench:
  """Compiles a method's train step for batches like the first of `data`.

  start: an adapter, for its shapes. norms: what `make_norms` returned.
  """
  settings = dict(c.run.optim) | {"lr": 1.0}
  tx, _ = optim.make(**settings, updates=data.updates)
  tx = scaled(tx)
  objective = update.make_objective(
    captioner.model,
    _scoring(c, captioner),
    name=method.loss,
    coefficients=method.coefficients,
  )
  step = update.make_train_step(objective, tx, dropout=False)
  shardings = job.state_shardings(start, tx, captioner.mesh)
  init = job.make_init(tx, shardings)
  out = shardings, sharding.replicated(captioner.mesh)
  jitted = jax.jit(step, donate_argnums=0, out_shardings=out)
  batch = sharding.put_batch(data.batches[0], captioner.mesh)
  given = init.eval_shape(start), {"params": captioner.params}, batch
  compiled = jitted.lower(*given, jax.random.key(0)).compile()
  return Bench(init, compiled, norms(method.loss), peak_bytes(compiled))


def fresh_adapter(captioner: material.Captioner, seed: int):
  """A new adapter on the mesh; it changes nothing yet."""
  model, mesh = captioner.model, captioner.mesh
  return {"lora": loading.fresh_adapter(model, mesh, seed)}


def train_cell(
  captioner, bench: Bench, data, adapter, lr: float, *, norms_every: int
) -> Trained:
  """Trains an adapter on all batches of `data`.

  norms_every: updates between two measurements of the reward norms; 0: none.
  """
  state = bench.init(adapter)
  rate = jax.device_put(jnp.float32(lr), sharding.replicated(captioner.mesh))
  state = state.replace(opt=(*state.opt[:-1], Rate(rate)))
  frozen, key = {"params": captioner.params}, jax.random.key(0)
  rows, seconds = [], []
  for index in range(len(data.batches)):
    batch = sharding.put_batch(data.batches[index], captioner.mesh)
    extra = {}
    if bench.reward_norms and norms_every and index % norms_every == 0:
      extra = bench.reward_norms(state.trained, frozen, batch)
    start = time.perf_counter()
    state, values = bench.step(state, frozen, batch, key)
    jax.block_until_ready(values)
    seconds.append(time.perf_counter() - start)
    logged = jax.device_get(values | extra)
    rows.append(
      {"step": index + 1, **{k: float(v) for k, v in logged.items()}}
      | {"pairs_per_s": float(logged["pairs"]) / seconds[-1]}
    )
  seconds = seconds[1:] or seconds
  return Trained(state.trained, rows, statistics.median(seconds))
