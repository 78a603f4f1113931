"""What every method of the study trains and is measured on.

Clips of the synthetic world in three splits; the tower's features of each,
computed once; captions sampled from the warm-started captioner itself, judged
exactly against the scene graphs; and the pairs chosen from them. Methods share
all of it to the byte.
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from synpo_jax.data import pipeline, prompts
from synpo_jax.evaluation import recipe
from synpo_jax.generation import batch_captions
from synpo_jax.generation.sampling import Sampling
from synpo_jax.pairing import choose
from synpo_jax.runtime import journal
from synpo_jax.runtime import progress as progress_bar
from synpo_jax.runtime.workdir import claim_workdir
from synpo_jax.training import job
from synpo_jax.weights import fingerprint, loading
from synpo_jax.world import folder as world
from synpo_jax.world import rendering, scores, telling
from synpo_jax.world.scene import Scene

SPLITS = ("train", "validation", "test")


class Captioner(NamedTuple):
  """The warm-started captioner on its mesh, the same for every cell."""

  model: object
  params: dict
  texts: job.Texts
  mesh: jax.sharding.Mesh


class Material(NamedTuple):
  """Rows by split: pairs, and reference captions; scenes by video id."""

  scenes: dict[str, Scene]
  splits: dict[str, list[str]]  # video ids
  pairs: dict[str, pathlib.Path]
  references: dict[str, pathlib.Path]
  features: dict[str, np.ndarray]  # video -> bfloat16 [F, K, Dv]


def open_captioner(run) -> Captioner:
  """Loads what `run` (a config like configs/vdc.py) names."""
  mesh, model, texts = job.open_model(run)
  variables = loading.load_variables(
    model, run.model.checkpoint, mesh, run.seed
  )
  return Captioner(model, variables["params"], texts, mesh)


def prepare(c, workdir: pathlib.Path, captioner: Captioner) -> Material:
  """Makes what is missing of the material; a killed run goes on."""
  free = (*FREE_KEYS, *(f"run.{key}" for key in FREE_IN_RUN))
  claim_workdir(workdir, signature(c), free=free, made=MADE)
  scenes, splits = make_world(workdir / "world", **c.world)
  references = write_references(workdir, scenes, splits, c.world.seed)
  features = encode_clips(c, captioner, workdir, references)
  made = sample(c, captioner, workdir, references, features)
  pairs = write_pairs(workdir, splits, made, scenes, **c.pairs)
  return Material(scenes, splits, pairs, references, features)


# What was made by the config that config.json says.
MADE = ("features.npz", "candidates.jsonl", "cells.jsonl")
# What a resumed or extended study may change.
FREE_KEYS = ("methods", "lrs", "seeds", "results")
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
    del shared[key]
  del shared["run"]["mesh"], shared["run"]["data"]["limits"]
  return recipe.digest({"study": shared, "packages": recipe.versions()})


def make_world(folder, *, train, validation, test, seed, workers):
  """Renders the clips; the splits are consecutive seeds."""
  total = train + validation + test
  clips = world.render_world(folder, range(seed, seed + total), workers)
  ids = [scene.video for scene in clips]
  ends = np.cumsum([train, validation, test])
  splits = {
    name: ids[end - size : end]
    for name, end, size in zip(
      SPLITS, ends, (train, validation, test), strict=True
    )
  }
  return {scene.video: scene for scene in clips}, splits


def _filled(splits) -> list[tuple[str, list[str]]]:
  """The splits that have clips."""
  return [(name, ids) for name, ids in splits.items() if ids]


def write_references(workdir, scenes, splits, seed):
  """Rows {id, video, question, chosen}: a true caption of each clip."""
  paths = {}
  for name, ids in _filled(splits):
    paths[name] = workdir / f"references_{name}.jsonl"
    rows = []
    for number, video in enumerate(ids):
      rng = np.random.default_rng([seed, number, SPLITS.index(name)])
      row = _row(video)
      rows.append(row | {"chosen": telling.tell(scenes[video].facts, rng)})
    journal.rewrite(paths[name], rows)
  return paths


def _row(video):
  question = prompts.TRAINING_QUESTION
  return {"id": video, "video": f"clips/{video}.mp4", "question": question}


def read_data(c, captioner, rows, features, *, captions, epochs, seed):
  """Batches of a split's rows, with features in the place of frames."""
  run = c.run.copy_and_resolve_references()
  run.seed = seed
  data = job.read_data(
    run,
    captioner,
    captions=captions,
    epochs=epochs,
    pairs=str(rows),
    min_score_gap=None,
    videos=str(rows.parent / "world"),
    cache=str(rows.parent / "shards"),
  )
  if features is None:
    return data
  return pipeline.with_features(
    data, lambda number: features[video_id(data.videos[number])]
  )


def video_id(path: str) -> str:
  """The clip's id: its file's name without folder and suffix."""
  return pathlib.PurePosixPath(path).stem


def encode_clips(c, captioner, workdir, references):
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
  for rows in references.values():
    data = read_data(c, captioner, rows, None, captions=1, epochs=1, seed=0)
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


def sample(c, captioner, workdir, references, features):
  """{video: candidates}: drawn from the captioner before any training."""
  settings = c.candidates.to_dict()
  write = functools.partial(
    batch_captions.write,
    captioner.model.clone(lora=None),
    {"params": captioner.params},
    mesh=captioner.mesh,
    sampling=Sampling(**settings.pop("sampling")),
    max_new_tokens=settings.pop("new"),
    **captioner.texts._asdict(),
    **settings,
  )
  with journal.extend(workdir / "candidates.jsonl") as (rows, append):
    for path in references.values():
      data = read_data(
        c, captioner, path, features, captions=1, epochs=1, seed=0
      )
      with progress_bar.bar("candidates", len(data.pairs)) as advance:
        for index in range(len(data.batches)):
          batch = data.batches[index].micro(0)
          names = [_name(data, row) for row in batch.row]
          if {*names} - {""} - rows.keys():
            made = write(batch, [name or "filler" for name in names])
            for name, captions in zip(names, made, strict=True):
              if name and name not in rows:
                append({"id": name, "captions": captions})
          advance(sum(bool(name) for name in names))
    return {name: row["captions"] for name, row in rows.items()}


def _name(data, row):
  return video_id(data.pairs[row].video) if row >= 0 else ""


def write_pairs(workdir, splits, candidates, scenes, *, min_gap, length_ratio):
  """Judges by `scores`, chooses, and writes the pairs of each split.

  Of a clip's candidates the best by F1 of claims is chosen and the worst
  rejected, of those that are as long as the best: so facts, not length, tell
  them apart.

  Args:
    min_gap: least difference of F1.
    length_ratio: most words of the longer, in words of the shorter.
  """
  paths = {}
  for split, ids in _filled(splits):
    paths[split] = workdir / f"pairs_{split}.jsonl"
    rows = []
    for video in ids:
      texts = candidates[video]
      marks = [scores.score(text, scenes[video])["f1"] for text in texts]
      marks = alike(texts, marks, length_ratio)
      pair = choose.choose(texts, marks, negative="worst", target_gap=None)
      if isinstance(pair, str):  # the reason why there is none
        continue
      high, low = marks[pair.chosen], marks[pair.rejected]
      if high - low >= min_gap:
        row = _row(video) | {"chosen": texts[pair.chosen]}
        row |= {"rejected": texts[pair.rejected]}
        rows.append(row | {"chosen_score": high, "rejected_score": low})
    if not rows:
      raise ValueError(
        f"no pair of the {split} clips has a gap of {min_gap}; lower "
        "pairs.min_gap or sample more candidates"
      )
    journal.rewrite(paths[split], rows)
  return paths


def alike(texts: list[str], marks: list[float], ratio: float):
  """Marks, None where a text's length is not that of the best, the first."""
  lengths = [max(1, len(text.split())) for text in texts]
  like = lengths[marks.index(max(marks))]
  return [
    mark if max(length, like) <= ratio * min(length, like) else None
    for mark, length in zip(marks, lengths, strict=True)
  ]
