"""Features of a frozen vision tower, computed once and read ever after.

They lie beside the decoded frames, as bfloat16 arrays in ArrayRecord files
(data.records): a folder per tower (its weights, its config with the ratio of
tokens kept, the dtype it computes in, the first layer that has an adapter,
where one has: features are what enters it), in it an array per video, found by
the content of its frames. So another run, folder of videos or file of pairs
computes only what is new, and other weights or another preprocessing never
meet old features.

A model that computes in bfloat16 reads what it would compute; one in float32
reads rounded features.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from synpo_jax.data import pipeline, records
from synpo_jax.models.tree_digest import digest
from synpo_jax.runtime import exchange, hosts, settings
from synpo_jax.training import cache_folder, encoding

LAYOUT = 1  # of the stored features; a new one makes new folders
CHUNK = 64  # videos in a file: what a killed process loses at most
# Norm of (stored - computed) over that of computed, by dtype of computation.
TOLERANCE = {"float32": 2**-8, "bfloat16": 2**-4}


def make(
  model, tower, cache: str | Path, *, frames_at_once: int, verify: int
) -> Callable[[pipeline.Data], pipeline.Data]:
  """Returns a function that swaps the frames of data for cached features.

  It computes what the cache lacks, every process its share of the videos, and
  recomputes `verify` videos to compare. All processes call it alike.

  Args:
    model, tower: a Captioner, and its frozen weights `params/tower`.
    cache: folder that all processes share, or in a bucket: data.cache.
    frames_at_once: frames that a device encodes together.
    verify: videos to recompute.

  The function raises ValueError where stored and recomputed features differ
  by more than TOLERANCE, or processes do not share the cache.
  """
  place = exchange.place(cache, f"features-{_setting(model, tower)}")
  encode = encoding.make_encoder(model, tower, frames_at_once)
  tolerance = TOLERANCE[jnp.dtype(model.dtype).name]

  def attach(data):
    if data.frames is None:
      return data
    keys = [data.frames.digest(n) for n in range(len(data.videos))]
    computed = _fill(*place, data, keys, encode)
    reader = _open(*place, data, keys)
    sample = cache_folder.spread(verify, len(keys))
    for number, fresh in encode(data.frames, sample[_share()]):
      _compare(reader, number, fresh, data.videos[number], tolerance)
    hosts.say(
      f"features: {len(set(keys)) - computed} read, {computed} computed; "
      f"verified {len(sample)}"
    )
    return pipeline.with_features(
      data,
      reader,
      model.config.frames_per_step,
      flat=model.config.follow is not None,
    )

  return attach


def _setting(model, tower) -> str:
  """Name of all that decides the features of given frames."""
  config = dataclasses.asdict(model.config.tower)
  config.pop("budget", None)  # it is in the size of the frames
  dtype = jnp.dtype(model.dtype).name
  split = [] if model.split is None else [model.split]
  return settings.digest([LAYOUT, digest(tower), config, dtype, *split], 16)


def _share() -> slice:
  """Which of a list are this process's."""
  return slice(jax.process_index(), None, jax.process_count())


def _fill(folder, remote, data, keys, encode) -> int:
  """Computes what the folder lacks; returns how many videos that were."""
  with cache_folder.held(folder, "features"):
    exchange.pull(folder, remote)
    stored = records.inventory(folder)
    cache_folder.together("features listed")  # before anyone adds to them
    todo = {key: n for n, key in enumerate(keys) if key not in stored}
    mine = sorted(todo.values())[_share()]
    with cache_folder.bar("features", len(mine)) as advance:

      def made():
        for number, features in encode(data.frames, mine):
          advance()
          yield keys[number], features

      records.write_all(folder, made(), CHUNK)
    exchange.push(folder, remote)
  return len(todo)


def _open(folder, remote, data, keys) -> records.Reader:
  exchange.pull(folder, remote)
  entries = records.inventory(folder)
  for key, video in zip(keys, data.videos, strict=True):
    if key not in entries:
      raise ValueError(
        f"{folder}: has no features of {video}, which another process "
        "computed; data.cache must be a folder that all processes share, or "
        "lie in a bucket"
      )
  return records.Reader([entries[key] for key in keys])


def _compare(reader, number, fresh, video, tolerance):
  fresh = fresh.astype(np.float32)
  gap = reader(number).astype(np.float32) - fresh
  error = np.linalg.norm(gap) / np.linalg.norm(fresh)
  if not error <= tolerance:
    raise ValueError(
      f"{reader.file(number)}: features of {video} are {error:.2g} off what "
      f"the tower computes now ({tolerance:.2g} allowed); delete that file, "
      "or set cache.features=False"
    )
