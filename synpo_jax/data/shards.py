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
import itertools
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from synpo_jax.data import (
  chunks,
  decoding,
  records,
  several,
  video,
  windows,
)
from synpo_jax.data.limits import Limits
from synpo_jax.runtime import buckets, exchange, journal, progress, settings

CHUNK = 128  # videos; what a killed build loses at most
LAYOUT = 4  # of the stored records; a new one makes new fingerprints
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
  share: exchange.Share = exchange.ALONE,
) -> Store:
  """Decodes the videos that the cache lacks; returns where all of them are.

  Args:
    paths: file of each video name (pairs.locate).
    cache: folder for all settings; made if absent, safe to share by runs. In
      a bucket each process decodes its share, and gets the others'.
    workers: decoding processes; 0 decodes in this one.
    missing: further names, and why they have no file; for the report.
    limits: what a video may cost; one that costs more is quarantined.
    share: which part of the videos is this process's, of a cache in a bucket.

  The report, `quarantine.jsonl` in the setting's folder, says of each video
  that cannot be used why not. It is written anew by every build.

  Raises:
    ValueError: no video at all can be used, or another process's videos are
      others than this one's.
    OSError: the cache cannot be written; one line that names its folder.
  """
  folder, remote = exchange.place(cache, fingerprint(rule, preprocess))
  keys = {name: key(path) for name, path in paths.items()}
  asked = dict(rule=rule, preprocess=preprocess, limits=limits)
  with alone(folder):
    exchange.pull(folder, remote)
    mine = paths if remote is None else _mine(paths, share)
    todo = plan({keys[n]: p for n, p in mine.items()}, folder, remote)
    failed = _decode(folder, remote, todo, workers, **asked)
    if remote is None:
      return collect(folder, keys, failed, paths, missing)
  failed = _together(remote, failed, share)
  with alone(folder):
    exchange.pull(folder, remote)
    return collect(folder, keys, failed, paths, missing)


def plan(files, folder: Path, remote: Path | None) -> list[windows.Window]:
  """The chunks that are to be made, of files by key.

  folder: where the finished ones are. remote: the bucket they go to, if any.
  """
  taken = {path.name for path in folder.glob("chunk-*")}
  stored = chunks.inventory(folder)
  return windows.plan(files, stored, None if remote else taken, CHUNK)


def collect(folder: Path, keys, failed, paths, missing) -> Store:
  """What a folder holds of some videos, and a report of the others."""
  stored = chunks.inventory(folder)
  broken = {n: failed[k] for n, k in keys.items() if k in failed}
  bad = dict(missing or {}) | broken
  report = _report(folder, bad, paths)
  places = {n: stored[k] for n, k in keys.items() if k in stored}
  if lacking := keys.keys() - places.keys() - broken.keys():
    raise ValueError(
      f"{folder}: lacks {min(lacking)}, which another process should have "
      "decoded; data.videos must be a bucket, or a folder that all processes "
      "share"
    )
  if bad and not places:
    first = ": ".join(next(iter(bad.items())))
    raise ValueError(
      f"{report}: none of {len(bad)} videos can be used; {first}"
    )
  return Store(places, bad, report)


def _mine(paths: Mapping[str, Path], share: exchange.Share) -> dict[str, Path]:
  """The videos that this process decodes, the same whatever is done already."""
  return dict(list(paths.items())[share.index :: share.count])


def _together(remote, failed: dict[str, str], share: exchange.Share) -> dict:
  """Waits for all processes; returns why videos failed, in any of them."""
  name = "failed.{}-of-{}.json"
  own = json.dumps(failed)
  (remote / name.format(share.index, share.count)).write_text(own)
  share.together("videos decoded")
  for index in range(share.count):
    theirs = (remote / name.format(index, share.count)).read_text()
    failed = failed | json.loads(theirs)
  return failed


def fingerprint(rule: video.FrameRule, preprocess: video.Preprocess) -> str:
  """Name of a setting: a hash of all that decides the stored frames."""
  form = dataclasses.asdict(preprocess)
  if preprocess.rule is None:
    del form["rule"]
  setting = [LAYOUT, dataclasses.asdict(rule), form]
  return settings.digest(setting, 16)


def key(path: Path | several.Parts) -> str:
  """What tells a file, or several, from others and from earlier content."""
  if isinstance(path, several.Parts):
    return json.dumps([str(path), *map(key, path.paths)])
  if isinstance(path, buckets.BucketPath):
    return json.dumps([str(path), path.version()])
  stat = path.stat()
  # Copies may keep the time of writing; that of the last change none can set.
  times = stat.st_mtime_ns, stat.st_ctime_ns
  return json.dumps([str(path.resolve()), stat.st_size, *times])


@contextlib.contextmanager
def alone(folder: Path):
  """Others who build the same setting wait here, then find it built."""
  with records.alone(folder):
    for leftover in folder.glob("building-*"):
      shutil.rmtree(leftover)
    yield


def _decode(folder, remote, plan, workers, **asked) -> dict[str, str]:
  """Builds chunk after chunk; returns why videos failed, by key.

  remote: where each goes as well, if the cache is in a bucket.
  """
  failed, jobs = {}, [job for window in plan for job in window.jobs]
  if not jobs:
    return failed
  with progress.bar("decoding videos", len(jobs)) as advance:
    workers, size = min(workers, len(jobs)), asked["preprocess"].size
    results = decoding.decode(jobs, workers=workers, **asked)
    for window in plan:
      some = itertools.islice(results, len(window.jobs))
      draft = folder / f"building-{os.getpid()}"
      if windows.build(draft, size, some, failed, advance):
        os.rename(draft, folder / window.name)
        exchange.push(folder, remote)
  return failed


def _report(folder: Path, bad: dict[str, str], paths) -> Path:
  report = folder / QUARANTINE
  rows = [
    {"video": name, "path": str(paths.get(name, "")), "reason": reason}
    for name, reason in bad.items()
  ]
  journal.rewrite(report, rows)
  return report
