"""The shards of `shards.build`, byte for byte, by a pipeline of Apache Beam.

The pipeline holds names of windows; what is in them, and why a video failed,
lies in a folder `building-…` beside the chunks, which all workers must reach.
A worker makes a whole chunk with tensorflow-datasets' builder, as the local
path does: the one build that tensorflow-datasets' own Beam writer would make
of all videos is lost with any worker, and is in other files.
"""

import contextlib
import functools
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from synpo_jax.data import decoding, several, shards, video, windows
from synpo_jax.data.limits import Limits
from synpo_jax.runtime import buckets, exchange, journal

INSTALL = "pip install 'synpo_jax[beam]', or in a checkout -e '.[beam]'"
LOCAL = (None, "DirectRunner")
one_at_a_time = threading.Lock()  # what tells on stdout is silenced


def build(
  paths: Mapping[str, Path | several.Parts],
  cache: str | Path,
  *,
  rule: video.FrameRule,
  preprocess: video.Preprocess,
  workers: int,
  options: Sequence[str],
  missing: Mapping[str, str] | None = None,
  limits: Limits | None = None,
) -> shards.Store:
  """As shards.build, the decoding done by workers of Beam.

  workers: 0 decodes in Beam's own processes, where a decoder that crashes ends
  the run; with any other number each has one process to decode in. options:
  of the pipeline, as "runner=DirectRunner". Of a cache in a bucket only the
  lists come to this machine.

  Raises:
    ValueError: no video can be used; Apache Beam is not installed; an option
      of the local runner that it does not have.
    OSError: the pipeline failed, in one line that names the cache's folder.
  """
  beam = _library()
  given = _options(beam, options)
  folder, remote = exchange.place(cache, shards.fingerprint(rule, preprocess))
  home = remote or folder
  keys = {name: shards.key(path) for name, path in paths.items()}
  asked = dict(rule=rule, preprocess=preprocess, limits=limits)
  with contextlib.nullcontext() if remote else shards.alone(folder):
    files = {keys[name]: path for name, path in paths.items()}
    plan = shards.plan(files, home, remote)
    failed = {}
    if plan:
      work = functools.partial(make, workers=min(workers, 1), **asked)
      with _room(home, plan) as room:
        _run(beam, given, [window.name for window in plan], room, work)
        for window in plan:
          failed |= _outcome(room, window.name)
    return shards.collect(home, keys, failed, paths, missing)


def _library():
  try:
    import apache_beam
  except ImportError as error:
    raise ValueError(
      f"--beam_pipeline_options: Apache Beam is missing ({error}): {INSTALL}"
    ) from error
  return apache_beam


def _options(beam, options: Sequence[str]):
  """Beam's PipelineOptions of texts like "runner=DirectRunner"."""
  kinds = beam.options.pipeline_options
  given = kinds.PipelineOptions([f"--{option}" for option in options])
  given.view_as(kinds.TypeOptions).pipeline_type_check = False
  if given.view_as(kinds.StandardOptions).runner not in LOCAL:
    return given
  every = given.get_all_options(retain_unknown_options=True)
  if unknown := every.keys() - given.get_all_options().keys():
    raise ValueError(
      f"--beam_pipeline_options: the direct runner has no {min(unknown)}"
    )
  # There are no triggers; this keeps the direct runner from downloading Prism,
  # another runner, which would pass over the direct_… options.
  given.view_as(kinds.TypeOptions).allow_unsafe_triggers = True
  own = given.view_as(kinds.WorkerOptions)
  own.default_sdk_harness_log_level = (
    own.default_sdk_harness_log_level or "WARNING"
  )
  job = "apache_beam.runners.portability.local_job_service"
  logging.getLogger(job).setLevel(logging.ERROR)  # tells a second time
  return given


@contextlib.contextmanager
def _room(home: Path, plan: Sequence[windows.Window]) -> Iterator[Path]:
  """A folder beside the chunks that says what is in each window."""
  room = home / f"building-{uuid.uuid4().hex}"
  try:
    for window in plan:
      jobs = [[key, _texts(file)] for key, file in window.jobs]
      content = json.dumps(jobs).encode()
      journal.replace(room / f"{window.name}.jobs.json", content)
    yield room
  finally:
    _remove(room)


def _remove(room: Path) -> None:
  if not isinstance(room, buckets.BucketPath):
    shutil.rmtree(room, ignore_errors=True)
    return
  for path in buckets.files(room):
    path.unlink(missing_ok=True)


def _texts(file: decoding.File) -> str | list[str]:
  if isinstance(file, several.Parts):
    return [str(path) for path in file.paths]
  return str(file)


def _file(texts: str | list[str]) -> decoding.File:
  if isinstance(texts, list):
    return several.Parts(tuple(map(buckets.at, texts)))
  return buckets.at(texts)


def _outcome(room: Path, name: str) -> dict[str, str]:
  """Why videos of a window failed, by key."""
  try:
    return json.loads((room / f"{name}.failed.json").read_text("utf-8"))
  except FileNotFoundError as error:
    raise OSError(
      f"{room.parent}: the Beam pipeline ended without {name}; start it again"
    ) from error


def make(name: str, room: str, workers: int, **asked) -> None:
  """Makes the chunk of one window, unless it is done; what a worker does.

  room: where its jobs lie; the chunk goes beside it, then the reasons of the
  videos that failed go there.
  """
  place = buckets.at(room)
  if (place / f"{name}.failed.json").exists():
    return
  content = json.loads((place / f"{name}.jobs.json").read_text("utf-8"))
  jobs = [(key, _file(texts)) for key, texts in content]
  size, failed = asked["preprocess"].size, {}
  with one_at_a_time, _draft(place) as draft:
    results = decoding.decode(jobs, workers=workers, **asked)
    if windows.build(draft, size, results, failed, lambda note: None):
      _publish(draft, place.parent / name)
  journal.replace(place / f"{name}.failed.json", json.dumps(failed).encode())
  count = functools.partial(tfds.beam.inc_counter, namespace="synpo_jax")
  count("videos decoded", len(jobs) - len(failed))
  count("videos quarantined", len(failed))


@contextlib.contextmanager
def _draft(place: Path) -> Iterator[Path]:
  """Where a chunk grows: on the disk that it stays on, or on one's own."""
  at = None if isinstance(place, buckets.BucketPath) else place
  with tempfile.TemporaryDirectory(dir=at, ignore_cleanup_errors=True) as own:
    yield Path(own, "chunk")


def _publish(draft: Path, to: Path) -> None:
  """Puts a chunk where it belongs; one that is there already is the same."""
  if isinstance(to, buckets.BucketPath):
    exchange.put(draft, to)
    return
  try:
    os.rename(draft, to)
  except OSError:
    if not to.exists():
      raise


def _run(beam, options, names: list[str], room: Path, work: Callable) -> None:
  """Runs the pipeline to its end."""
  home = room.parent
  try:
    with _watched(home), beam.Pipeline(options=options) as pipeline:
      every = pipeline | beam.Create(names) | beam.Reshuffle()
      every | beam.Map(work, room=str(room))
  except RuntimeError as error:  # with the traces of both sides
    last = str(error).strip().splitlines()[-1]
    raise OSError(
      f"{home}: the Beam pipeline failed ({last}); what it finished is kept, "
      "start it again"
    ) from error


@contextlib.contextmanager
def _watched(home: Path) -> Iterator[None]:
  """Ends this process, and what it started, where a worker of it is gone.

  The direct runner would wait for it for ever.
  """
  import psutil

  def ended(thread):
    print(
      f"error: {home}: a worker of the Beam pipeline is gone "
      f"({thread.exc_value}); what it finished is kept, start it again",
      file=sys.stderr,
      flush=True,
    )
    for child in psutil.Process().children(recursive=True):
      with contextlib.suppress(psutil.NoSuchProcess):
        child.kill()
    os._exit(1)

  before, threading.excepthook = threading.excepthook, ended
  try:
    yield
  finally:
    threading.excepthook = before
