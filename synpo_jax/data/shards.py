"""Sampled frames of videos as ArrayRecord shards, decoded once and for all.

Every video is stored once, however many rows speak of it. A cache folder
holds one folder per setting (frame rule, size, resize), named by its
fingerprint, and in it chunks: tensorflow-datasets builds of up to CHUNK
videos, with a list of what they hold. A chunk appears under its name only
when it is whole; a build that was killed goes on with the chunks it lacks. A
video whose path, size or times of change differ is decoded again.
TensorFlow itself is neither installed nor imported.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds

from synpo_jax.data import chunks, decoding, records, several, video
from synpo_jax.data.limits import Limits
from synpo_jax.runtime import buckets, journal, progress, settings

CHUNK = 128  # videos; what a killed build loses at most
LAYOUT = 3  # of the stored records; a new one makes new fingerprints
QUARANTINE = "quarantine.jsonl"


class Store(NamedTuple):
  """Stored videos by the name that rows use, and why others are missing."""

  places: dict[str, chunks.Place]
  quarantined: dict[str, str]
  report: Path


def build(
  paths: Mapping[str, Path | several.Parts],
  cache: str | Path,
  *,
  rule: video.FrameRule,
  preprocess: video.Preprocess,
  workers: int,
  missing: Mapping[str, str] | None = None,
  limits: Limits | None = None,
) -> Store:
  """Decodes the videos that the cache lacks; returns where all of them are.

  Args:
    paths: file of each video name (pairs.locate).
    cache: folder for all settings; made if absent, safe to share by runs.
    workers: decoding processes; 0 decodes in this one.
    missing: further names, and why they have no file; for the report.
    limits: what a video may cost; one that costs more is quarantined.

  The report, `quarantine.jsonl` in the setting's folder, says of each video
  that cannot be used why not. It is written anew by every build.

  Raises:
    ValueError: no video at all can be used.
    OSError: the cache cannot be written; one line that names its folder.
  """
  folder = buckets.local(cache, "data.cache").resolve()
  folder /= fingerprint(rule, preprocess)
  with _alone(folder):
    stored = chunks.inventory(folder)
    keys = {name: _key(path) for name, path in paths.items()}
    todo = {keys[n]: p for n, p in paths.items() if keys[n] not in stored}
    asked = dict(rule=rule, preprocess=preprocess, limits=limits)
    failed = _decode_chunks(folder, todo, workers, **asked)
    stored = chunks.inventory(folder)
    broken = {n: failed[k] for n, k in keys.items() if k in failed}
    bad = dict(missing or {}) | broken
    report = _report(folder, bad, paths)
  places = {n: stored[k] for n, k in keys.items() if k in stored}
  if bad and not places:
    first = ": ".join(next(iter(bad.items())))
    raise ValueError(
      f"{report}: none of {len(bad)} videos can be used; {first}"
    )
  return Store(places, bad, report)


def fingerprint(rule: video.FrameRule, preprocess: video.Preprocess) -> str:
  """Name of a setting: a hash of all that decides the stored frames."""
  setting = [LAYOUT, dataclasses.asdict(rule), dataclasses.asdict(preprocess)]
  return settings.digest(setting, 16)


def _key(path: Path | several.Parts) -> str:
  """What tells a file, or several, from others and from earlier content."""
  if isinstance(path, several.Parts):
    return json.dumps([str(path), *map(_key, path.paths)])
  if isinstance(path, buckets.BucketPath):
    return json.dumps([str(path), path.version()])
  stat = path.stat()
  # Copies may keep the time of writing; that of the last change none can set.
  times = stat.st_mtime_ns, stat.st_ctime_ns
  return json.dumps([str(path.resolve()), stat.st_size, *times])


@contextlib.contextmanager
def _alone(folder: Path):
  """Others who build the same setting wait here, then find it built."""
  with records.alone(folder):
    for leftover in folder.glob("building-*"):
      shutil.rmtree(leftover)
    yield


def _decode_chunks(folder, todo, workers, **asked) -> dict[str, str]:
  """Builds chunk after chunk; returns why videos failed, by key."""
  failed = {}
  if not todo:
    return failed
  with progress.bar("decoding videos", len(todo)) as advance:
    workers = min(workers, len(todo))
    results = decoding.decode(todo.items(), workers=workers, **asked)
    while some := list(itertools.islice(results, 1)):
      window = itertools.chain(some, itertools.islice(results, CHUNK - 1))
      _build_chunk(folder, asked["preprocess"].size, window, failed, advance)
  return failed


def _build_chunk(folder, size, results, failed: dict, advance):
  """Stores the clips among the results; notes the reasons of the others."""
  rows, building = [], folder / f"building-{os.getpid()}"

  def examples():
    for key, outcome in results:
      advance(note=f"{len(failed)} failed" if failed else "")
      if isinstance(outcome, str):
        failed[key] = outcome
        continue
      frames = outcome.frames
      place = {"record": len(rows), "frames": len(frames)}
      place["digest"] = chunks.digest_of(frames)
      place["seconds"] = _spacing(outcome)
      rows.append({"key": key, **place})
      yield {
        "video": json.loads(key)[0],
        "frames": frames,
        "indices": outcome.indices,
        "duration": outcome.duration,
        "total": outcome.total,
      }

  supply = examples()
  if (first := next(supply, None)) is None:
    return
  clips = chunks.Clips(
    size=size, examples=itertools.chain([first], supply), data_dir=building
  )
  with contextlib.redirect_stdout(io.StringIO()), records.writing_to(folder):
    tfds.disable_progress_bar()
    clips.download_and_prepare()
  journal.rewrite(building / chunks.LIST, rows)
  taken = (int(x.name.rpartition("-")[2]) for x in folder.glob("chunk-*"))
  os.rename(building, folder / f"chunk-{max(taken, default=-1) + 1:05d}")


def _spacing(clip: video.Clip) -> float:
  """Seconds from one sampled frame to the next, on average."""
  first, last = int(clip.indices[0]), int(clip.indices[-1])
  gaps = max(1, len(clip.indices) - 1)
  return clip.duration * (last - first) / (clip.total * gaps)


def _report(folder: Path, bad: dict[str, str], paths) -> Path:
  report = folder / QUARANTINE
  rows = [
    {"video": name, "path": str(paths.get(name, "")), "reason": reason}
    for name, reason in bad.items()
  ]
  journal.rewrite(report, rows)
  return report
