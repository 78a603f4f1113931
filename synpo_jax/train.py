"""Entry: trains a captioner on preference pairs.

python -m synpo_jax.train --config=configs/vdc.py --workdir=runs/demo

The same command continues a run that was stopped: after SIGTERM it has saved
where it was, after kill -9 it starts at the last checkpoint.
"""

import functools
import json
import os
import pathlib
import signal
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
from absl import app, flags, logging
from jax.experimental import multihost_utils
from rich.console import Console

from synpo_jax import (
  checkpoint,
  heldout,
  hosts,
  layout,
  loading,
  metrics,
  optim,
  progress,
  report,
  sharding,
  update,
)
from synpo_jax.data import pipeline, text, video, world
from synpo_jax.entry_flags import CONFIG, WORKDIR

# Keys of the config that may change when a run is continued.
FREE_KEYS = ("every", "keep_checkpoints", "mesh", "data.workers")


class Texts(NamedTuple):
  """The tokenizer, and the token that ends a caption."""

  tokenizer: object
  end: int


class Steps(NamedTuple):
  """The jitted functions of a run."""

  train: object
  evaluate: object
  reward_norms: object


class Job(NamedTuple):
  """All that the loop needs, in place on the mesh."""

  mesh: jax.sharding.Mesh
  model: object
  texts: Texts
  frozen: dict
  state: update.TrainState
  data: pipeline.Data
  heldout: pipeline.Data | None
  steps: Steps
  rate: object  # update number -> learning rate


def main(argv):
  """Reads the flags, runs, and says in one line what stops it."""
  if len(argv) > 1:
    sys.exit(f"error: unexpected arguments {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)  # libraries tell too much otherwise
  try:
    hosts.start()
    job = prepare(CONFIG.value, WORKDIR.value)
  except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")
  run(job, CONFIG.value, WORKDIR.value)


def prepare(c, workdir) -> Job:
  """Checks the config, reads data and weights, makes the jitted steps.

  Raises ValueError or OSError, in one line, for what cannot be used.
  """
  mesh = sharding.make_mesh(**c.mesh)
  sharding.check_batch(mesh, c.data.batch_size)
  if hosts.is_first():
    checkpoint.claim_workdir(workdir, c.to_dict(), free=FREE_KEYS)
  if c.world.clips:
    make_world(**c.world)
  sections = c.model.to_dict()
  tokenizer_folder = sections.pop("tokenizer") or sections["checkpoint"]
  model = loading.make_model(**sections, adapter=c.lora.to_dict())
  tokenizer = text.load_tokenizer(tokenizer_folder)
  texts = Texts(tokenizer, text.end_id(tokenizer, c.data.template))
  captions = 1 if c.loss.name == "sft" else 2
  data = read_data(c, model, texts, c.data.to_dict(), captions, c.epochs)
  held = read_heldout(c, model, texts) if c.heldout.pairs else None
  variables = loading.load_variables(model, c.model.checkpoint, mesh, c.seed)
  trained, frozen = update.split(variables, c.trainable)
  tx, rate = optim.make(**c.optim, updates=data.updates)
  state, places = init_state(trained, tx, mesh)
  steps = make_steps(c, model, tx, mesh, places)
  say(f"model: {loading.describe(variables)}; {describe_mesh(mesh)}")
  say(f"data: {pipeline.summary(data.counts)}; {data.updates} updates")
  return Job(mesh, model, texts, frozen, state, data, held, steps, rate)


def make_world(*, folder, clips, heldout, seed):
  """Renders the synthetic world, unless all of it is there."""
  if hosts.is_first():
    say(f"rendering {clips} clips into {folder}")
    workers = os.cpu_count() or 1
    world.write_world(
      folder, clips=clips, seed=seed, heldout=heldout, workers=workers
    )
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices("world")


def read_data(c, model, texts, section, captions, epochs) -> pipeline.Data:
  """The batches of a `data` section, this process's share of each."""
  tower = model.config.tower
  size = (tower.image_size,) * 2 if tower else (1, 1)
  return pipeline.make(
    pipeline.Settings(**section),
    rule=video.FrameRule(**c.frames),
    how=video.Preprocess(size=size, **c.pixels),
    tokenizer=texts.tokenizer,
    blocks=model.config.blocks,
    captions=captions,
    epochs=epochs,
    seed=c.seed,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )


def read_heldout(c, model, texts) -> pipeline.Data:
  """The held-out pairs, once through."""
  section = c.data.to_dict() | dict(
    pairs=c.heldout.pairs,
    videos=c.heldout.videos,
    accumulation=1,
    min_score_gap=None,
  )
  return read_data(c, model, texts, section, 2, 1)


def init_state(trained, tx, mesh):
  """A fresh state on the mesh, and the shardings of its leaves.

  What learns is held in float32, whatever the model computes in.
  """
  places = jax.tree.map(lambda leaf: leaf.sharding, trained)
  trained = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), trained)
  init = functools.partial(update.init_state, tx=tx)
  shapes = jax.eval_shape(init, trained)
  everywhere = sharding.replicated(mesh)
  opt_places = sharding.optimiser_shardings(shapes.opt, places, mesh)
  all_places = update.TrainState(
    everywhere, places, opt_places, everywhere, everywhere
  )
  return jax.jit(init, out_shardings=all_places)(trained), all_places


def make_steps(c, model, tx, mesh, places) -> Steps:
  """Jits the update, the held-out scores and the reward norms."""
  how = dict(
    layout=c.step.layout_name,
    head_chunk=c.step.head_chunk,
    head_sharding=sharding.head_sharding(mesh),
  )
  if how["layout"] not in layout.LAYOUTS:
    raise ValueError(
      f"step.layout_name={how['layout']}: choose one of "
      f"{', '.join(layout.LAYOUTS)}"
    )
  loss = dict(name=c.loss.name, coefficients=dict(c.loss.coefficients))
  objective = update.make_objective(model, how, **loss)
  dropout = c.lora.rank > 0 and c.lora.dropout > 0
  train = update.make_train_step(objective, tx, dropout=dropout)
  everywhere = sharding.replicated(mesh)
  return Steps(
    jax.jit(train, donate_argnums=0, out_shardings=(places, everywhere)),
    jax.jit(update.make_eval_step(objective), out_shardings=everywhere),
    jax.jit(
      update.make_reward_norms(model, how, name=c.loss.name),
      out_shardings=everywhere,
    ),
  )


def run(job, c, workdir):
  """Trains to the end of the schedule, or to a signal; shows the result."""
  workdir = pathlib.Path(workdir)
  stream = pipeline.Stream(job.data.batches, c.data.workers)
  with checkpoint.open_manager(workdir, keep=c.keep_checkpoints) as manager:
    found = checkpoint.restore(manager, checkpoint.abstract(job.state))
    state = job.state
    if found is not None:
      state, position = found
      stream.set_state(position)
      say(f"continuing after update {int(state.step)} of {job.data.updates}")
    before = scores_before(job, c, state, workdir)
    state = loop(job, c, workdir, state, stream, manager)
  finished = int(state.step) == job.data.updates
  if finished and job.heldout is not None:
    show_result(before, held_out_scores(job, c, state), workdir)


def loop(job, c, workdir, state, stream, manager):
  """Updates until the schedule ends or a signal asks to stop."""
  start = int(state.step)
  log = (
    metrics.open_log(workdir, start_step=start)
    if hosts.is_first()
    else (metrics.NoLog())
  )
  stop = stop_on_sigterm()
  key = jax.random.key(c.seed)
  clock, pending = metrics.Clock(), None
  with progress.bar("update", job.data.updates, done=start) as advance:
    for number in range(start, job.data.updates):
      batch = sharding.put_batch(clock.waiting(next, stream), job.mesh)
      extra = {}
      if c.every.reward_norms and number % c.every.reward_norms == 0:
        extra = job.steps.reward_norms(state.trained, job.frozen, batch)
      state, values = job.steps.train(state, job.frozen, batch, key)
      if pending:  # fetched only now, so the device never waits for the host
        write_row(log, advance, clock, job.rate, c.stop_after_skips, *pending)
      pending = (number, values | extra)
      last = number + 1 == job.data.updates
      stopping = should_stop(stop, number)
      if last or stopping or _due(c.every.checkpoint, number):
        checkpoint.save(manager, number + 1, state, stream.get_state())
      if stopping:
        break
    if pending:
      write_row(log, advance, clock, job.rate, c.stop_after_skips, *pending)
  manager.wait_until_finished()
  log.close()
  stream.close()
  if stop.is_set():
    say(f"stopped after update {int(state.step)}; the same command continues")
  say(f"compiled {job.steps.train._cache_size()} train steps")
  return state


def _due(every, number):
  return every and (number + 1) % every == 0


def write_row(log, advance, clock, rate, most_skips, number, values):
  """Writes the metrics of update `number`; ends a run that only skips."""
  values = {k: float(v) for k, v in jax.device_get(values).items()}
  row = {"step": number + 1, **values, "lr": float(rate(number))}
  log.write(row | clock.rates(row["pairs"], row["tokens"]))
  advance(note=f"loss {row['loss']:.4f}")
  if row["skipped_in_a_row"] >= most_skips:
    log.close()
    sys.exit(
      f"error: {most_skips} updates in a row had no finite loss or gradient "
      f"(up to update {number + 1}); lower optim.lr, or look at the data"
    )


class Flag:
  """Set by a signal."""

  def __init__(self):
    self._set = False

  def set(self, *_):
    """Signal handler."""
    self._set = True

  def is_set(self) -> bool:
    """Whether the signal came."""
    return self._set


def stop_on_sigterm() -> Flag:
  """A flag that SIGTERM sets. Several processes agree through JAX instead."""
  flag = Flag()
  if jax.process_count() == 1:
    signal.signal(signal.SIGTERM, flag.set)
  return flag


def should_stop(flag, number) -> bool:
  """Whether to save and leave after this update, on all processes alike."""
  if jax.process_count() > 1:
    if multihost_utils.reached_preemption_sync_point(number):
      flag.set()
  return flag.is_set()


def scores_before(job, c, state, workdir):
  """Held-out scores before the first update, kept for a continued run."""
  path = workdir / "before.json"
  if job.heldout is None:
    return None
  if int(state.step):
    return json.loads(path.read_text())
  scores = held_out_scores(job, c, state)
  if hosts.is_first():
    path.write_text(json.dumps(scores, indent=2) + "\n")
  return scores


def held_out_scores(job, c, state):
  """Scores of the held-out pairs, and of captions written for their clips."""
  pairs = heldout.score_pairs(
    job.steps.evaluate, state.trained, job.frozen, job.heldout, job.mesh
  )
  if not (c.heldout.captions and c.heldout.scenes):
    return pairs
  if jax.process_count() > 1:
    say("held-out captions are written by single-process runs only")
    return pairs
  captions = heldout.write_captions(
    job.model,
    update.merge(state.trained, job.frozen),
    job.heldout,
    *job.texts,
    most=c.heldout.captions,
    new=c.heldout.max_new_tokens,
    mesh=job.mesh,
  )
  return pairs | heldout.score_captions(captions, c.heldout.scenes)


def show_result(before, after, workdir):
  """Prints the table, and draws the curves onto a page."""
  if not hosts.is_first():
    return
  (workdir / "after.json").write_text(json.dumps(after, indent=2) + "\n")
  Console().print(heldout.table(before, after))
  print(f"curves: {report.write([str(workdir)], workdir / 'report')}")


def describe_mesh(mesh) -> str:
  """The mesh in words."""
  axes = ", ".join(f"{name} {size}" for name, size in mesh.shape.items())
  return f"{mesh.size} {mesh.devices.flat[0].device_kind} as {axes}"


def say(line):
  """One line, from the first process."""
  if hosts.is_first():
    print(line, flush=True)


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(main)
