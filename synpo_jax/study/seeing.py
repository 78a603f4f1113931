"""Teaches a tower to see: exact labels of every patch, before any caption.

A linear reader for each label of `world.patches` stands on the tower's
features, tokens merged as they are in use; a token that is several patches
has the shares of their labels to tell. The readers are thrown away after.
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Int8, UInt8

from synpo_jax.data import video
from synpo_jax.models import captioner, vit
from synpo_jax.runtime import progress
from synpo_jax.runtime.workdir import claim_workdir
from synpo_jax.training import checkpoint, metrics, optim, update
from synpo_jax.world import patches
from synpo_jax.world.scene import Scene

OF_THINGS_WEIGHT = 4.0  # more that a label counts where there is a thing


class Album(NamedTuple):
  """Pictures of clips, and what their patches show."""

  frames: UInt8[np.ndarray, "N F Y X 3"]
  labels: Int8[np.ndarray, "N F P 8"]


def make_album(data, scenes: dict[str, Scene], side: int) -> Album:
  """Reads the stored frames of data's videos and labels them.

  Args:
    data: a pipeline.Data whose videos are clips of the synthetic world.
    scenes: scene graphs by video id.
    side: patches on an edge of a frame.
  """
  frames, labels = [], []
  with progress.bar("labels", len(data.videos)) as advance:
    for number, name in enumerate(data.videos):
      scene = scenes[pathlib.PurePosixPath(name).stem]
      clip = data.frames(number)
      moments = video.spread(0, scene.frames - 1, len(clip))
      moments = moments / (scene.frames - 1)
      frames.append(clip)
      labels.append([patches.labels(scene, float(t), side) for t in moments])
      advance()
  return Album(np.stack(frames), np.array(labels, np.int8))


def pick(album: Album, seed: int, step: int, size: int) -> Album:
  """The pictures of one update: `size` of them, at random."""
  rng = np.random.default_rng([seed, step])
  clips, moments = album.frames.shape[:2]
  chosen = rng.integers(clips, size=size), rng.integers(moments, size=size)
  return Album(album.frames[chosen], album.labels[chosen])


def init(tower, key) -> dict:
  """The readers, beside a copy of the tower's weights."""
  width = tower["positions"].shape[1]
  keys = jax.random.split(key, len(patches.VALUES))
  readers = {
    name: 0.02 * jax.random.normal(k, (width, values))
    for k, (name, values) in zip(keys, patches.VALUES.items(), strict=True)
  }
  return {"tower": jax.tree.map(jnp.copy, tower), "readers": readers}


def make_loss(config):
  """Returns (weights, frames, labels) -> (loss, share of labels right).

  config: the tower's. The share is of tokens that show mostly one value; of
  things' labels, where there is a thing.
  """
  tower, first = vit.Tower(config), int(config.class_token)

  def loss(
    weights,
    frames: UInt8[Array, "I Y X 3"],
    labels: Int8[Array, "I P 8"],
  ):
    pixels = captioner.normalise(frames, config.mean, config.std)
    x, _, slots = tower.apply(
      {"params": weights["tower"]}, pixels, method="trace"
    )
    share_IPK = share(slots[:, first:] - first, x.shape[1])
    x *= jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)
    total, right = 0.0, {}
    for index, (name, values) in enumerate(patches.VALUES.items()):
      truth = jax.nn.one_hot(labels[..., index], values)
      truth = jnp.einsum("ipk,ipv->ikv", share_IPK, truth)
      told = jax.nn.log_softmax(x @ weights["readers"][name])
      there = 1.0 - truth[..., 0] if name in patches.OF_THINGS else 0.0
      missed = -jnp.sum(truth * told, axis=-1)
      total += jnp.mean(missed * (1.0 + OF_THINGS_WEIGHT * there))
      right[name] = _right(truth, told, name in patches.OF_THINGS)
    return total, right

  return loss


def share(slots: Int[Array, "I P"], count: int) -> Float[Array, "I P K"]:
  """What part of each token each patch is."""
  held = jax.nn.one_hot(slots, count)
  return held / jnp.maximum(jnp.sum(held, axis=1, keepdims=True), 1.0)


def _right(truth, told, of_things) -> Float[Array, ""]:
  counts = jnp.max(truth, axis=-1) > 0.5
  if of_things:
    counts &= truth[..., 0] < 0.5
  hits = counts & (jnp.argmax(truth, axis=-1) == jnp.argmax(told, axis=-1))
  return jnp.sum(hits) / jnp.maximum(jnp.sum(counts), 1)


def train(c, config, tower, album: Album, workdir: pathlib.Path, seed: int):
  """Trains the tower; a killed run goes on. Returns its weights.

  Args:
    c: updates, pictures (of an update), optim (as configs/vdc.py's), every
      (updates between two checkpoints).
    config: the tower's TowerConfig.
    tower: its weights to start from.
  """
  claim_workdir(workdir, c.to_dict())
  tx, rate = optim.make(**c.optim, updates=c.updates)
  state = update.init_state(init(tower, jax.random.key(seed)), tx)
  step_fn = jax.jit(make_step(make_loss(config), tx), donate_argnums=0)
  with checkpoint.open_manager(workdir, keep=2) as manager:
    found = checkpoint.restore(manager, checkpoint.abstract(state))
    state = state if found is None else found[0]
    log = metrics.open_log(workdir, start_step=int(state.step))
    draw = functools.partial(pick, album, seed, size=c.pictures)
    with progress.bar("tower", c.updates, done=int(state.step)) as advance:
      for step in range(int(state.step), c.updates):
        state, values = step_fn(state, *draw(step))
        values = {k: float(v) for k, v in jax.device_get(values).items()}
        log.write({"step": step + 1, **values, "lr": float(rate(step))})
        advance(note=f"loss {values['loss']:.3f}")
        if (step + 1) % c.every == 0 or step + 1 == c.updates:
          position = {"next": step + 1}
          checkpoint.save(manager, step + 1, state, position, c.to_dict(), {})
    log.close()
  return state.trained["tower"]


def make_step(loss, tx):
  """Returns pure (state, frames, labels) -> (state, metrics)."""

  def step(state: update.TrainState, frames, labels):
    grad = jax.value_and_grad(loss, has_aux=True)
    (value, right), grads = grad(state.trained, frames, labels)
    updates, opt = tx.update(grads, state.opt, state.trained)
    trained = optax.apply_updates(state.trained, updates)
    state = state.replace(step=state.step + 1, trained=trained, opt=opt)
    return state, {"loss": value} | right

  return step
