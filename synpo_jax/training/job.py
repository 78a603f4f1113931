"""From a config to all that a run needs, in place on the mesh."""

import functools
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

from synpo_jax import losses
from synpo_jax.data import pipeline, text, video
from synpo_jax.models import attention, sharding
from synpo_jax.runtime import hosts
from synpo_jax.runtime.workdir import claim_workdir
from synpo_jax.training import caches, optim, pair_logps, update
from synpo_jax.weights import loading
from synpo_jax.world import folder as world

# Keys of the config that may change when a run is continued.
FREE_KEYS = (
  *("every", "keep_checkpoints", "language", "mesh", "data.workers"),
  *("cache.frames_at_once", "cache.verify"),
)


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
  cached: caches.Caches  # data and heldout have been through them


def prepare(c, workdir) -> Job:
  """Checks the config, reads data and weights, makes the jitted steps.

  Raises ValueError or OSError, in one line, for what cannot be used.
  """
  mesh = sharding.make_mesh(**c.mesh)
  sharding.check_batch(mesh, c.data.batch_size)
  if hosts.is_first():
    claim_workdir(workdir, c.to_dict(), free=FREE_KEYS)
  if c.world.clips:
    make_world(**c.world)
  model = make_model(c, mesh)
  tokenizer = text.load_tokenizer(c.model.tokenizer or c.model.checkpoint)
  texts = Texts(tokenizer, text.end_id(tokenizer, c.data.template))
  captions = losses.captions(c.loss.name)
  data = read_data(c, model, texts, c.data.to_dict(), captions, c.epochs)
  held = read_heldout(c, model, texts) if c.heldout.pairs else None
  variables = loading.load_variables(model, c.model.checkpoint, mesh, c.seed)
  trained, frozen = update.split(variables, c.trainable)
  tx, rate = optim.make(**c.optim, updates=data.updates)
  state, places = init_state(trained, tx, mesh)
  steps = make_steps(c, model, tx, mesh, places)
  hosts.say(f"model: {loading.describe(variables)}; {describe_mesh(mesh)}")
  how = attention.describe(model.attention, model.config.decoder, model.dtype)
  hosts.say(f"attention: {how}")
  fates, much = pipeline.summary(data.counts), f"{data.updates} updates"
  hosts.say(f"data: {fates}; {much}, shapes of batches: {data.shapes}")
  scoring = pair_logps.make_scoring(**c.step, mesh=mesh)
  cached = caches.make(c, model, trained, frozen, mesh, scoring)
  data, held = cached(data), cached(held) if held else None
  return Job(mesh, model, texts, frozen, state, data, held, steps, rate, cached)


def make_model(c, mesh):
  """The module of a config's `model` and `lora` sections, for a mesh."""
  sections = c.model.to_dict()
  del sections["tokenizer"]
  return loading.make_model(**sections, adapter=c.lora.to_dict(), mesh=mesh)


def make_world(*, folder, clips, heldout, seed):
  """Renders the synthetic world, unless all of it is there."""
  if hosts.is_first():
    hosts.say(f"rendering {clips} clips into {folder}")
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
    preprocess=video.Preprocess(size=size, **c.pixels),
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
  trained = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), trained)
  places = state_shardings(trained, tx, mesh)
  init = functools.partial(update.init_state, tx=tx)
  return jax.jit(init, out_shardings=places)(trained), places


def state_shardings(trained, tx, mesh) -> update.TrainState:
  """Where a state lives; `trained` are arrays or shapes with shardings."""
  places = jax.tree.map(lambda leaf: leaf.sharding, trained)
  init = functools.partial(update.init_state, tx=tx)
  opt_places = sharding.optimiser_shardings(
    jax.eval_shape(init, trained).opt, places, mesh
  )
  everywhere = sharding.replicated(mesh)
  return update.TrainState(
    everywhere, places, opt_places, everywhere, everywhere
  )


def make_steps(c, model, tx, mesh, places) -> Steps:
  """Jits the update, the held-out scores and the reward norms."""
  scoring = pair_logps.make_scoring(**c.step, mesh=mesh)
  loss = dict(name=c.loss.name, coefficients=dict(c.loss.coefficients))
  objective = update.make_objective(model, scoring, **loss)
  dropout = c.lora.rank > 0 and c.lora.dropout > 0
  train = update.make_train_step(objective, tx, dropout=dropout)
  everywhere = sharding.replicated(mesh)
  return Steps(
    jax.jit(train, donate_argnums=0, out_shardings=(places, everywhere)),
    jax.jit(update.make_eval_step(objective), out_shardings=everywhere),
    jax.jit(
      update.make_reward_norms(model, scoring, name=c.loss.name),
      out_shardings=everywhere,
    ),
  )


def describe_mesh(mesh) -> str:
  """The mesh in words."""
  axes = ", ".join(f"{name} {size}" for name, size in mesh.shape.items())
  return f"{mesh.size} {mesh.devices.flat[0].device_kind} as {axes}"
