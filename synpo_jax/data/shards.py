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
import hashlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from synpo_jax.data import decoding, records, video
from synpo_jax.data.limits import Limits
from synpo_jax.runtime import journal, progress
from synpo_jax.runtime.terminal import first_line

CHUNK = 128  # videos; what a killed build loses at most
LAYOUT = 3  # of the stored records; a new one makes new fingerprints
QUARANTINE = "quarantine.jsonl"


class Place(NamedTuple):
  """Where the frames of a video are stored, how many, and their content."""

  folder: str
  record: int
  frames: int
  digest: str  # SHA-256 of the pixels: equal where the frames are
  seconds: float  # from one of the frames to the next, on average


class Store(NamedTuple):
  """Stored videos by the name that rows use, and why others are missing."""

  places: dict[str, Place]
  quarantined: dict[str, str]
  report: Path


class Clips(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """One chunk: frames uint8 [F, Y, X, 3], in the order they were handed in.

  The frames are stored as they are: ArrayRecord compresses, without loss.
  """

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, *, size, examples=(), data_dir):
    self._size, self._examples = size, examples
    super().__init__(data_dir=data_dir, file_format="array_record")

  def _info(self):
    frames = tfds.features.Tensor(
      shape=(None, *self._size, 3), dtype=np.uint8, encoding="bytes"
    )
    features = {
      "video": tfds.features.Text(),
      "frames": frames,
      "indices": tfds.features.Tensor(shape=(None,), dtype=np.int64),
      "duration": tfds.features.Scalar(np.float64),
      "total": tfds.features.Scalar(np.int64),
    }
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(features),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    return {"clips": enumerate(self._examples)}

  def _generate_examples(self):
    raise AssertionError("the split generators hand over the examples")


def build(
  paths: Mapping[str, Path],
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
  """
  folder = Path(cache).resolve() / fingerprint(rule, preprocess)
  with _alone(folder):
    stored = _inventory(folder)
    keys = {name: _key(path) for name, path in paths.items()}
    todo = {keys[n]: p for n, p in paths.items() if keys[n] not in stored}
    asked = dict(rule=rule, preprocess=preprocess, limits=limits)
    failed = _decode_chunks(folder, todo, workers, **asked)
    stored = _inventory(folder)
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
  return hashlib.sha256(json.dumps(setting).encode()).hexdigest()[:16]


def _key(path: Path) -> str:
  """What tells a file from another or from its earlier content."""
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


def _inventory(folder: Path) -> dict[str, Place]:
  """Places of all videos in finished chunks, by key."""
  places = {}
  for chunk in sorted(folder.glob("chunk-*")):
    try:
      lines = (chunk / "clips.jsonl").read_text("utf-8").splitlines()
      for row in map(json.loads, lines):
        key = row.pop("key")
        places[key] = _place(chunk, **row)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
      raise _damaged(chunk, error) from error
  return places


def _place(chunk: Path, *, record, frames, digest, seconds) -> Place:
  """A place as a line of the list has it; raises ValueError for nonsense."""
  whole = type(record) is int and type(frames) is int
  if not (whole and record >= 0 and frames > 0 and isinstance(digest, str)):
    raise ValueError(f"record {record!r}, frames {frames!r}, digest {digest!r}")
  return Place(str(chunk), record, frames, digest, float(seconds))


def _damaged(chunk, error) -> records.Damaged:
  why = first_line(error)[:200]
  return records.Damaged(
    f"{chunk}: its decoded videos cannot be read ({why}); delete that "
    "folder and start again, they are decoded anew"
  )


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
      place["digest"] = hashlib.sha256(frames.tobytes()).hexdigest()
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
  clips = Clips(
    size=size, examples=itertools.chain([first], supply), data_dir=building
  )
  with contextlib.redirect_stdout(io.StringIO()):
    tfds.disable_progress_bar()
    clips.download_and_prepare()
  journal.rewrite(building / "clips.jsonl", rows)
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


class Frames:
  """Frames by number of the video; opens its shards where it is used.

  Only places travel to worker processes, not open files.
  """

  def __init__(self, places: list[Place], size: tuple[int, int]):
    self._places, self._size, self._sources = places, size, {}

  def __len__(self) -> int:
    return len(self._places)

  def count(self, number: int) -> int:
    """Frames of a video, without reading them."""
    return self._places[number].frames

  def seconds(self, number: int) -> float:
    """From one frame of a video to the next, on average."""
    return self._places[number].seconds

  def digest(self, number: int) -> str:
    """Name of a video's frames by their content, without reading them."""
    return self._places[number].digest

  def __getstate__(self):
    return self.__dict__ | {"_sources": {}}

  def __call__(self, number: int) -> UInt8[np.ndarray, "F Y X 3"]:
    """The frames; raises records.Damaged where they are torn."""
    place = self._places[number]
    try:
      return self._source(place.folder)[place.record]["frames"]
    except Exception as error:  # each library of the stack has its own
      raise _damaged(place.folder, error) from error

  def _source(self, folder: str):
    if folder not in self._sources:
      clips = Clips(size=self._size, data_dir=folder)
      self._sources[folder] = clips.as_data_source(split="clips")
    return self._sources[folder]
