"""From a config to all that a run needs, in place on the mesh.

Two steps that others take alone: the model with its mesh and tokenizer
(`open_model`), and the batches (`read_data`).
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.experimental import multihost_utils

from synpo_jax import losses
from synpo_jax.data import accounts, pipeline, text, video
from synpo_jax.models import captioner, seeing, sharding
from synpo_jax.models.config import LoraConfig
from synpo_jax.runtime import alike, buckets, hosts, mirror
from synpo_jax.runtime.workdir import claim_workdir
from synpo_jax.training import (
  announcing,
  beginning,
  cache_folder,
  caches,
  inputs,
  packing,
  row_counts,
  train_steps,
  update,
)
from synpo_jax.weights import loading
from synpo_jax.world import folder as world

# Keys of the config that may change when a run is continued.
FREE_KEYS = (
  *("every", "keep_checkpoints", "language", "log", "mesh", "data.workers"),
  *("judge", "keep.patience", "micro_batch"),
  "data.limits",
  *("cache.frames_at_once", "cache.verify"),
)


# Keys that may differ between the processes of one run.
OWN_KEYS = ("data.workers",)


class Texts(NamedTuple):
  """The tokenizer, and the token that ends a caption."""

  tokenizer: object
  end: int


class Opened(NamedTuple):
  """A model that no weights are read for yet, and where it computes."""

  mesh: jax.sharding.Mesh
  model: captioner.Captioner
  texts: Texts


class Job(NamedTuple):
  """All that the loop needs, in place on the mesh."""

  mesh: jax.sharding.Mesh
  model: captioner.Captioner
  texts: Texts
  frozen: dict  # what updates read of it
  tower: dict  # weights that they do without; loop.train lets them go
  state: update.TrainState
  data: pipeline.Data
  heldout: pipeline.Data | None
  steps: train_steps.Steps
  features: Callable  # data -> the same with cached features, as data has
  inputs: dict[str, str]  # digests of what is read, for checkpoints


def prepare(c, workdir) -> Job:
  """Checks the config, reads data and weights, makes the jitted steps.

  Raises ValueError or OSError, in one line, for what cannot be used.
  """
  named = mirror.address(workdir) or workdir
  alike.check({**c.to_dict(), "--workdir": str(named)}, OWN_KEYS)
  loss = losses.make(**c.loss.to_dict())
  beginning.check(c)
  mesh, model, texts = opened = open_model(c)
  if hosts.is_first():
    claim_workdir(workdir, c.to_dict(), free=FREE_KEYS)
  if c.world.clips:
    make_world(**c.world)
  losses.check_gap(loss.all_pairs, c.data.min_score_gap)
  packing.check(c, model.config)
  run = dict(captions=loss.captions, epochs=c.epochs)
  data = read_data(c, opened, **run, share_rows=True)
  packing.check_together(c, data)
  if model.config.tower is not None:
    pipeline.check_seen(data, c.data.to_dict())
  held = read_heldout(c, opened) if c.heldout.pairs else None
  read = inputs.claim(workdir, inputs.read(c, data, held))
  fresh = loading.load_variables(model, c.model.checkpoint, mesh, c.seed)
  variables = beginning.variables(c, model, mesh, fresh)
  trained, frozen = update.split(variables, c.trainable)
  steps = train_steps.make_steps(c, model, trained, mesh, data.updates)
  announcing.announce(opened, variables, data, c.data)
  if held:
    hosts.say(f"held out: {accounts.summary(held.counts)}")
  row_counts.list_dropped(workdir, data, held)
  row_counts.write(workdir, data, held)
  reference = beginning.reference(c, model, mesh, fresh["params"])
  cached = caches.make(c, model, variables, mesh, reference)
  data, held = cached(data), cached(held) if held else None
  state = steps.init(trained)
  frozen, tower = caches.lay_aside(c, model, frozen)
  placed = mesh, model, texts, frozen, tower, state
  return Job(*placed, data, held, steps, cached.features, read)


def open_model(c) -> Opened:
  """The model that a config describes, on its mesh, and its tokenizer."""
  mesh = sharding.make_mesh(**c.mesh)
  sharding.check_batch(mesh, c.data.batch_size)
  model = make_model(c, mesh)
  tokenizer = text.load_tokenizer(c.model.tokenizer or c.model.checkpoint)
  ending = text.ending(tokenizer, c.data.template)
  text.check_time(c.data.template, model.config.stamped)
  vocab = model.config.decoder.vocab
  text.check_vocabulary(tokenizer, c.data.template, vocab)
  token = tokenizer.convert_ids_to_tokens(ending.id)
  hosts.say(f"captions end with {token} ({ending.id}): {ending.why}")
  return Opened(mesh, model, Texts(tokenizer, ending.id))


def make_model(c, mesh) -> captioner.Captioner:
  """The module of a config's `model` and `lora` sections, for a mesh."""
  sections = c.model.to_dict()
  del sections["tokenizer"]
  adapter = c.lora.to_dict()
  model = loading.make_model(**sections, adapter=adapter, mesh=mesh)
  return model.clone(config=seen(c, model.config))


def seen(c, config):
  """The same captioner config, with sizes of frames as `pixels` has them.

  Raises ValueError for training that sizes which follow the video rule out.
  """
  config = seeing.follow(config, c.pixels.to_dict())
  adapter = LoraConfig(**c.lora.to_dict()).on("tower")
  adapted = c.lora.rank > 0 and adapter is not None
  seeing.check(config, adapted, c.cache.features)
  return config


def make_world(*, folder, clips, heldout, seed):
  """Renders the synthetic world, unless all of it is there."""
  folder = buckets.local(folder, "world.folder")
  if hosts.is_first():
    hosts.say(f"rendering {clips} clips into {folder}")
    workers = os.cpu_count() or 1
    world.write_world(
      folder, clips=clips, seed=seed, heldout=heldout, workers=workers
    )
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices("world")


def read_data(
  c, opened, *, captions, epochs, share_rows=False, **changes
) -> pipeline.Data:
  """The batches of the `data` section, this process's share of each.

  opened: anything with the `model` and the `texts` of Opened. share_rows: as
  data.packing says, for which `opened` has a `mesh`; else each pair has a row.
  changes: keys of the section that differ.
  """
  tower, shards = opened.model.config.tower, 1
  if share_rows:
    shards = sharding.row_shards(opened.mesh)
  else:
    changes |= dict(packing=0)
  return pipeline.make(
    pipeline.Settings(**c.data.to_dict() | changes),
    **frames_as(c, opened.model.config),
    tokenizer=opened.texts.tokenizer,
    blocks=opened.model.config.blocks if tower else _sees_none,
    captions=captions,
    epochs=epochs,
    seed=c.seed,
    frames_per_step=opened.model.config.frames_per_step,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    together=cache_folder.together,
    shards=shards,
  )


def frames_as(c, config) -> dict:
  """Which frames of videos a run takes, and what they become for its model."""
  return dict(
    rule=video.FrameRule(**c.frames),
    preprocess=seeing.preprocess(config, c.pixels.to_dict()),
  )


def _sees_none(frames: int):
  raise ValueError(
    "the model is a language model and sees no video, but the row names one; "
    "take 'video' out, or name a captioner as model.checkpoint"
  )


def read_once(
  c, opened, *, captions, pairs, videos, least_gap=None, **changes
) -> pipeline.Data:
  """All rows of another file, once through, a micro-batch at a time.

  least_gap: data.min_score_gap of this file. changes: as of read_data.
  """
  return read_data(
    c,
    opened,
    captions=captions,
    epochs=1,
    pairs=pairs,
    videos=videos,
    accumulation=1,
    min_score_gap=least_gap,
    **changes,
  )


def read_heldout(c, opened) -> pipeline.Data:
  """The held-out pairs, once through."""
  files = dict(pairs=c.heldout.pairs, videos=c.heldout.videos)
  loss = losses.make(**c.loss.to_dict())
  files |= dict(captions=max(2, loss.captions), least_gap=loss.all_pairs)
  return read_once(c, opened, **files)
