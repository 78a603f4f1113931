"""The ground that both regimes of the study stand on.

Clips of the synthetic world in splits, a true caption of each, and the tower's
features, computed once. Cells share all of it to the byte.
"""

import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from synpo_jax.data import pipeline, prompts
from synpo_jax.evaluation import recipe
from synpo_jax.runtime import journal
from synpo_jax.runtime import progress as progress_bar
from synpo_jax.runtime.workdir import claim_workdir
from synpo_jax.training import job
from synpo_jax.weights import fingerprint, loading
from synpo_jax.world import folder as world
from synpo_jax.world import rendering, telling
from synpo_jax.world.scene import Scene


class Captioner(NamedTuple):
  """A captioner on its mesh."""

  model: object
  params: dict
  texts: job.Texts
  mesh: jax.sharding.Mesh


class Ground(NamedTuple):
  """Clips: scenes by id, ids by split; rows by split, a true caption each."""

  folder: pathlib.Path  # of the clips
  scenes: dict[str, Scene]
  splits: dict[str, list[str]]
  references: dict[str, pathlib.Path]
  features: dict[str, np.ndarray]  # by id: bfloat16 [F, K, Dv]


def open_captioner(run) -> Captioner:
  """Loads what `run` (a config like configs/vdc.py) names."""
  mesh, model, texts = job.open_model(run)
  variables = loading.load_variables(
    model, run.model.checkpoint, mesh, run.seed
  )
  return Captioner(model, variables["params"], texts, mesh)


def lay(c, workdir: pathlib.Path, captioner: Captioner) -> Ground:
  """Makes what is missing of the ground; a killed run goes on."""
  free = (*FREE_KEYS, *(f"run.{key}" for key in FREE_IN_RUN))
  claim_workdir(workdir, signature(c), free=free, made=MADE)
  folder = workdir / "world"
  scenes, splits = make_world(folder, **c.world)
  references = write_references(folder, scenes, splits, c.world.seed)
  ground = Ground(folder, scenes, splits, references, {})
  features = encode_clips(c, captioner, workdir, ground)
  return ground._replace(features=features)


# What was made by the config that config.json says.
MADE = ("features.npz", "*/candidates.jsonl", "*/cells.jsonl")
# What a resumed or extended study may change.
FREE_KEYS = ("regimes", "methods", "lrs", "lr_start", "seeds", "results")
FREE_IN_RUN = ("mesh", "data.limits")


def signature(c) -> dict:
  """The config, the captioner it starts from by content, how clips look."""
  folder = c.run.model.checkpoint
  content = fingerprint.captioner(folder, "") or "random weights"
  return c.to_dict() | {"captioner": content, "drawn": rendering.WORLD}


def mark(c) -> str:
  """Hash of what the rows of a study share, wherever it is run."""
  shared = signature(c)
  for key in FREE_KEYS:
    shared.pop(key, None)
  del shared["run"]["mesh"], shared["run"]["data"]["limits"]
  return recipe.digest({"study": shared, "packages": recipe.versions()})


def make_world(folder, *, seed, **sizes):
  """Renders the clips; the splits are consecutive seeds, `sizes` of each."""
  total = sum(sizes.values())
  workers = os.cpu_count() or 1
  clips = world.render_world(folder, range(seed, seed + total), workers)
  ids = [scene.video for scene in clips]
  ends = np.cumsum(list(sizes.values()))
  splits = {
    name: ids[end - size : end]
    for (name, size), end in zip(sizes.items(), ends, strict=True)
    if size
  }
  return {scene.video: scene for scene in clips}, splits


def write_references(folder, scenes, splits, seed):
  """Rows {id, video, question, chosen}: a true caption of each clip."""
  paths = {}
  for name, ids in splits.items():
    paths[name] = folder / f"references_{name}.jsonl"
    rows = []
    for video in ids:
      rng = np.random.default_rng([seed, scenes[video].seed])
      told = telling.tell(scenes[video].facts, rng)
      rows.append(clip_row(video) | {"chosen": told})
    journal.rewrite(paths[name], rows)
  return paths


def clip_row(video: str) -> dict:
  """{id, video, question}: what is asked of a clip."""
  question = prompts.TRAINING_QUESTION
  return {"id": video, "video": f"clips/{video}.mp4", "question": question}


def read_data(c, captioner, ground, rows, *, captions, epochs=1, seed=0):
  """Batches of a file of rows, with features in the place of frames."""
  run = c.run.copy_and_resolve_references()
  run.seed = seed
  data = job.read_data(
    run,
    captioner,
    captions=captions,
    epochs=epochs,
    pairs=str(rows),
    min_score_gap=None,
    videos=str(ground.folder),
    cache=str(ground.folder / "shards"),
  )
  if not ground.features:
    return data
  return pipeline.with_features(
    data, lambda number: ground.features[video_id(data.videos[number])]
  )


def video_id(path: str) -> str:
  """The clip's id: its file's name without folder and suffix."""
  return pathlib.PurePosixPath(path).stem


def encode_clips(c, captioner, workdir, ground):
  """Tower features of every clip, bfloat16, kept in features.npz."""
  path = workdir / "features.npz"
  if path.exists():
    with np.load(path) as held:
      return {name: held[name].view(ml_dtypes.bfloat16) for name in held}
  encode = jax.jit(
    lambda params, frames: captioner.model.apply(
      {"params": params}, frames, method="encode"
    )
  )
  found = {}
  for rows in ground.references.values():
    data = read_data(c, captioner, ground, rows, captions=1)
    with progress_bar.bar("features", len(data.videos)) as advance:
      for number, name in enumerate(data.videos):
        frames = jnp.asarray(data.frames(number))[None]
        features = encode(captioner.params, frames)[0]
        found[video_id(name)] = np.asarray(features, ml_dtypes.bfloat16)
        advance()
  partial = workdir / "features.partial.npz"
  np.savez(partial, **{n: f.view(np.uint16) for n, f in found.items()})
  partial.replace(path)
  return found
