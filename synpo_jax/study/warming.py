"""Stages of the warm start: a tower that sees, then a decoder that speaks."""

import pathlib

import jax
import numpy as np

from synpo_jax import train
from synpo_jax.models import initial, sharding
from synpo_jax.models.config import CaptionerConfig
from synpo_jax.runtime import hosts
from synpo_jax.runtime.workdir import newest
from synpo_jax.study import seeing
from synpo_jax.training import job
from synpo_jax.weights import folders
from synpo_jax.world import scene as scenes


def teach_tower(c, workdir: pathlib.Path) -> pathlib.Path:
  """Folder of a captioner whose tower sees and whose decoder is random."""
  done = workdir / "seen"
  if done.exists():
    return done
  run = _run(c, workdir)
  opened = job.open_model(run)
  config: CaptionerConfig = opened.model.config
  params = initial.params(opened.model, run.seed)
  data = job.read_data(run, opened, captions=1, epochs=1)
  graphs = scenes.read_scenes(str(workdir / "world" / "scenes.jsonl"))
  side = config.tower.image_size // config.tower.patch
  album = seeing.make_album(data, graphs, side)
  tower = seeing.train(
    c.tower, config.tower, params["tower"], album, workdir / "tower", run.seed
  )
  params = widened(params) | {"tower": tower}
  part = workdir / "seen.part"
  folders.save(part, config, jax.tree.map(np.asarray, params))
  part.rename(done)
  return done


def widened(params: dict) -> dict:
  """Kernels of the decoder and projector at variance 1 / inputs.

  What starts at the published 0.02 takes longer at this small width. What
  adds to the residual stream starts at a tenth of that variance.
  """

  def widen(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if not name.endswith("kernel") or name.startswith("tower/"):
      return leaf
    scale = leaf.shape[-2] ** -0.5 / 0.02
    adds = "/o/" in name or "/down/" in name
    return leaf * (scale * (0.3 if adds else 1.0))

  return jax.tree.map_with_path(widen, params)


def teach_captions(c, workdir, start: pathlib.Path) -> pathlib.Path:
  """Trains decoder and projector on careful captions."""
  run = _run(c, workdir)
  run.model.checkpoint = str(start)
  folder = workdir / "careful"
  ready = job.prepare(run, folder)
  train.run(ready, run, folder)
  return folder


def _run(c, workdir):
  """The config of a stage that trains, reading what the workdir holds."""
  run = c.run.copy_and_resolve_references()
  run.data.update(
    pairs=str(workdir / "world" / "sft.jsonl"),
    videos=str(workdir / "world"),
    cache=str(workdir / "cache"),
  )
  return run
