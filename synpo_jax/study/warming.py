"""Stages of the warm start: a tower that sees, then a decoder that speaks.

A stage's captioner is a published folder, float32, that appears in the workdir
when it is whole; where it is there, the stage is done.
"""

import dataclasses
import pathlib
import shutil

import jax
import numpy as np

from synpo_jax.data import prompts
from synpo_jax.models import initial
from synpo_jax.runtime import journal, journal_rows, shipped
from synpo_jax.study import candidates, joining, material, seeing
from synpo_jax.training import job, loop, update
from synpo_jax.weights import folders, loading, merging
from synpo_jax.world import rows as world_rows
from synpo_jax.world import scene as graphs


class Stopped(Exception):
  """A signal ended a stage; what it made is saved."""


def teach_tower(c, workdir: pathlib.Path) -> pathlib.Path:
  """A captioner whose tower sees and whose decoder is random."""
  done = workdir / "seen"
  if done.exists():
    return done
  run = _run(c, workdir)
  opened = job.open_model(run)
  config = opened.model.config
  params = initial.params(opened.model, run.seed)
  tower = seeing.train(
    c.tower,
    config.tower,
    params["tower"],
    _album(run, opened, workdir),
    workdir / "tower",
    run.seed,
  )
  _keep(done, run, config, widened(params) | {"tower": tower})
  return done


def join_parts(c, workdir: pathlib.Path) -> pathlib.Path:
  """A captioner of c.parts: a tower that sees already, a language model, and
  between them a projector that tells in words what a patch shows."""
  done = workdir / "seen"
  if done.exists():
    return done
  run = _of(_run(c, workdir), c.parts.decoder)
  mesh, reader, texts = opened = job.open_model(run)
  seer = job.make_model(_of(run, c.parts.tower), mesh)
  config = dataclasses.replace(seer.config, decoder=reader.config.decoder)
  decoder = loading.load_params(reader, c.parts.decoder, mesh)["decoder"]
  tower = loading.load_params(seer, c.parts.tower, mesh)["tower"]
  words = np.asarray(decoder["embed"]["embedding"])
  projector = joining.teach(
    c.words,
    config,
    tower,
    joining.word_tables(texts.tokenizer, words),
    _album(run, opened._replace(model=seer), workdir),
    run.seed,
  )
  parts = dict(decoder=decoder, tower=tower, projector=projector)
  _keep(done, run, config, parts)
  return done


def _album(run, opened, workdir: pathlib.Path) -> seeing.Album:
  """Frames of the world's clips, with what their patches show."""
  data = job.read_data(run, opened, captions=1, epochs=1)
  scenes = graphs.read_scenes(str(workdir / "world" / "scenes.jsonl"))
  tower = opened.model.config.tower
  return seeing.make_album(data, scenes, tower.image_size // tower.patch)


def widened(params: dict) -> dict:
  """Kernels of the decoder and projector at variance 1 / inputs.

  The published 0.02 is slow to leave at this small width. What adds to the
  residual stream starts at a tenth of that variance.
  """

  def widen(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if not name.endswith("kernel") or name.startswith("tower/"):
      return leaf
    scale = leaf.shape[-2] ** -0.5 / 0.02
    adds = "/o/" in name or "/down/" in name
    return leaf * (scale * (0.3 if adds else 1.0))

  return jax.tree.map_with_path(widen, params)


def teach_careful(c, workdir, start: pathlib.Path) -> pathlib.Path:
  """Decoder and projector trained on careful captions of many requests."""
  return _teach(_run(c, workdir), start, workdir / "careful")


def teach_mixture(c, workdir, start: pathlib.Path) -> pathlib.Path:
  """Then on what a mixture of annotators wrote."""
  run = _run(c, workdir)
  run.update(epochs=c.mixing.epochs)
  run.optim.lr = c.mixing.lr
  rows = workdir / "world" / "mixture.jsonl"
  if not rows.exists():
    journal.rewrite(rows, mixture_rows(c, workdir))
  run.data.pairs = str(rows)
  return _teach(run, start, workdir / "mixture")


def mixture_rows(c, workdir) -> list[dict]:
  """Captions of c.mixing.clips, each by one of the annotators, who are all
  asked the training question; other requests are answered as before."""
  scenes = graphs.read_scenes(str(workdir / "world" / "scenes.jsonl"))
  shares, made = dict(c.mixture), []
  for scene in list(scenes.values())[: c.mixing.clips]:
    video = f"clips/{scene.video}.mp4"
    rng = np.random.default_rng([scene.seed, 0, 4])
    made.append(world_rows.mixture_row(scene, video, rng, shares))
    other = world_rows.sft_row(scene, video, rng)
    if not other["question"].startswith(prompts.TRAINING_QUESTION):
      made.append(other)
  return made


def _teach(run, start: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  done = folder.with_name(f"{folder.name}_captioner")
  if done.exists():
    return done
  run.model.checkpoint = str(start)
  ready = job.prepare(run, folder)
  state = loop.train(ready, run, folder).state
  if int(state.step) < ready.data.updates:
    raise Stopped
  params = loading.load_params(ready.model, str(start), ready.mesh)
  variables = update.merge(state.trained, {"params": params})
  _keep(done, run, ready.model.config, variables["params"])
  return done


def ship(captioner: pathlib.Path, run, out: pathlib.Path) -> None:
  """Writes a stage's captioner in float16, with its tokenizer."""
  mesh, model, _ = job.open_model(_of(run, captioner))
  params = loading.load_params(model, str(captioner), mesh)
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float16), params)
  folders.save(out, model.config, params)
  merging.copy_words(shipped.find(run.model.tokenizer), out)


LOGGED = ("loss", "grad_norm", "lr")


def keep_logs(workdir: pathlib.Path, out: pathlib.Path) -> None:
  """log.jsonl: loss, gradient norm and rate of each update, stage by stage."""
  logs = (
    {"stage": stage, "step": row["step"]}
    | {key: float(f"{row[key]:.6g}") for key in LOGGED if key in row}
    for stage in ("tower", "careful", "mixture")
    for _, row in journal_rows.whole_rows(workdir / stage / "metrics.jsonl")
  )
  journal.rewrite(out / "log.jsonl", list(logs))


def sample_pairs(c, workdir: pathlib.Path, out: pathlib.Path) -> None:
  """Pairs of the shipped captioner's own captions, beside it: pairs.jsonl to
  train on, heldout.jsonl of other clips."""
  study = c.policy.copy_and_resolve_references()
  study.run.model.checkpoint = str(out)
  folder = workdir / "pairs"
  captioner = material.open_captioner(study.run)
  ground = material.lay(study, folder, captioner)
  made = candidates.make_pairs(
    study, captioner, ground, folder, ("train", "test"), study.pairs
  )
  for split, name in (("train", "pairs"), ("test", "heldout")):
    journal.replace(out / f"{name}.jsonl", made[split].read_bytes())


def _keep(folder: pathlib.Path, run, config, params) -> None:
  part = folder.with_name(f"{folder.name}.part")
  shutil.rmtree(part, ignore_errors=True)
  folders.save(part, config, jax.tree.map(np.asarray, params))
  merging.copy_words(shipped.find(run.model.tokenizer), part)
  part.rename(folder)


def _run(c, workdir):
  """The config of a stage that trains, reading what the workdir holds."""
  run = c.run.copy_and_resolve_references()
  run.data.update(
    pairs=str(workdir / "world" / "sft.jsonl"),
    videos=str(workdir / "world"),
    cache=str(workdir / "cache"),
  )
  return run


def _of(run, captioner: pathlib.Path):
  """A run's config with another captioner."""
  run = run.copy_and_resolve_references()
  run.model.checkpoint = str(captioner)
  return run
