"""What a run will write, in bytes, and whether the disks have room for it."""

import math
import os
import pathlib
import re
import shutil
from collections.abc import Iterable

import jax
from flax import traverse_util

from synpo_jax.data import files
from synpo_jax.models import captioner, seeing
from synpo_jax.models.config import LoraConfig
from synpo_jax.planning import abstract_step
from synpo_jax.runtime import buckets, exchange
from synpo_jax.training import caches
from synpo_jax.weights import config_reading

MIB, GIB = 2**20, 2**30
LEAST = 64 * MIB  # beside what is estimated: curves, captions, a report


def check(c, workdir: str, named: Iterable[str | None]) -> str:
  """What a run writes and what is free for it, in words.

  named: the videos of the first rows of its pairs, one a row. What lies in
  its folders already counts as free: the run goes on with it, or replaces it.

  Raises OSError, in one line, where a disk is too small.
  """
  try:
    needed = estimate(c, workdir, list(named))
  except (ValueError, OSError):  # said where that is looked at
    needed = {place: {} for place in (workdir, c.data.cache)}
  needed = _on_disks(needed)
  return "; ".join(_told(places, needed) for places in _by_disk(needed))


def _on_disks(needed: dict[str, dict]) -> dict[str, dict]:
  """Without what goes to buckets; a cache there is on this disk as well."""
  found = {}
  for place, parts in needed.items():
    if "checkpoints" in parts and buckets.is_url(place):
      continue
    local = exchange.place(place, "")[0] if buckets.is_url(place) else place
    found[str(local)] = parts
  return found


def _told(places: list[str], needed: dict[str, dict]) -> str:
  """What is free on the disk of some places, and needed; OSError: too much."""
  parts = {}
  for place in places:
    parts |= needed[place]
  free = shutil.disk_usage(_existing(places[0])).free
  free += sum(map(_held, places))
  told = f"{_size(free)} free for {' and '.join(places)}"
  total = sum(parts.values())
  if parts:
    what = ", ".join(f"{name} {_size(of)}" for name, of in parts.items())
    told += f", about {_size(total)} needed ({what})"
  if free < total + LEAST:
    raise OSError(told)
  return told


def estimate(c, workdir: str, named: list[str | None]) -> dict[str, dict]:
  """Bytes by folder and kind, once all is cached and the run has ended."""
  sizes = config_reading.captioner_config(
    c.model.checkpoint or c.model.arch.to_dict()
  )
  if c.model.kept_ratio is not None and sizes.tower is not None:
    sizes = sizes.with_kept_ratio(c.model.kept_ratio)
  sizes = seeing.follow(sizes, c.pixels.to_dict())
  lora = LoraConfig(**c.lora) if c.lora.rank else None
  model = captioner.make(sizes, lora)
  # Weights and two moments in float32; a new one is whole before an old goes.
  kept = c.keep_checkpoints + 1 + 2 * bool(c.keep.best)
  saved = 12 * _trained(model, c.trainable) * kept
  needed = {str(workdir): {"checkpoints": saved}}
  cached = needed.setdefault(str(c.data.cache), {})
  if sizes.tower is not None and (videos := _videos(c, named)):
    most = c.frames.fixed or c.frames.max_frames
    most += -most % sizes.frames_per_step
    frames = most, *sizes.largest(most), 3
    cached["frames"] = videos * math.prod(frames)
    if caches.keeps_features(c, model):
      shape, dtype = abstract_step.features(model, frames, jax.numpy.uint8)
      cached["features"] = videos * math.prod(shape) * dtype.dtype.itemsize
  return needed


def _trained(model, pattern: str) -> int:
  """How many numbers learn."""
  flat = traverse_util.flatten_dict(captioner.shapes(model), sep="/")
  learn = (x for name, x in flat.items() if re.fullmatch(pattern, name))
  return sum(leaf.size for leaf in learn)


def _videos(c, named: list[str | None]) -> int:
  """About how many videos a run decodes: as in the first rows of its pairs."""
  if c.world.clips:
    return c.world.clips
  if not named:
    return 0
  found = files.find(c.data.pairs)
  rows = sum(1 for file in found for _ in files.stream(file))
  return math.ceil(rows * len({*named} - {None}) / len(named))


def _by_disk(places: Iterable[str]) -> list[list[str]]:
  """The places that share a file system."""
  disks = {}
  for place in places:
    disks.setdefault(os.stat(_existing(place)).st_dev, []).append(place)
  return list(disks.values())


def _existing(place: str) -> pathlib.Path:
  """The folder, or the nearest above it that there is."""
  folder = pathlib.Path(place).absolute()
  while not folder.exists():
    folder = folder.parent
  return folder


def _held(place: str) -> int:
  """Bytes of the files in a folder."""
  files = pathlib.Path(place).rglob("*")
  return sum(file.stat().st_size for file in files if file.is_file())


def _size(count: int) -> str:
  return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"
