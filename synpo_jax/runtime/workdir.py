"""A run on disk: its config, its newest checkpoint."""

import contextlib
import functools
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator

from absl import logging

from synpo_jax.runtime import buckets, json_file, mirror
from synpo_jax.runtime.settings import (
  PUT_BACK,
  Difference,
  claim,
  differences,
  fixed,
)
from synpo_jax.runtime.terminal import in_short

# Of a checkpoint: what each of its arrays holds, the run's config, and what
# the run reads (training.inputs), the weights it starts from among it.
DIGESTS, CONFIG, INPUTS = "digests", "config", "inputs"
BASE_WEIGHTS = "model.checkpoint"
READ = ("model", "lora", "seed")  # sections that other commands go by


def is_run(folder: str | pathlib.Path) -> bool:
  """Whether this is the workdir of a training run of ours."""
  folder = buckets.at(folder)
  return (folder / "config.json").exists() and checkpoints(folder).is_dir()


def run_config(workdir: str | pathlib.Path) -> dict:
  """The config that a run was started with, as nested dicts.

  Raises ValueError, in one line that names the file, where it is no JSON or
  the newest checkpoint was saved under another one.
  """
  path = buckets.at(workdir) / "config.json"
  config = json_file.read(path, PUT_BACK)
  step = _newest(workdir)
  saved = None if step is None else _saved(step, CONFIG)
  if saved is None:
    return config
  then, now = ({key: c.get(key) for key in READ} for c in (saved, config))
  if differing := _words(differences(then, now)):
    raise ValueError(
      f"{path}: {step} was saved under another config ({differing}); put that "
      "run's own config.json back"
    )
  return config


def newest(workdir: str | pathlib.Path) -> pathlib.Path:
  """The folder of a run's newest checkpoint, named after its step.

  One that is still being written has another name.
  """
  step = _newest(workdir)
  if step is None:
    raise FileNotFoundError(f"{workdir}: the run has saved no checkpoint yet")
  return step


def newest_step(workdir: str | pathlib.Path) -> int:
  """The update that a run's newest checkpoint is of; 0 without one."""
  found = _newest(workdir)
  return int(found.name) if found else 0


def _newest(workdir) -> pathlib.Path | None:
  steps = [x for x in checkpoints(workdir).glob("*") if x.name.isdigit()]
  whole = filter(_is_whole, sorted(steps, key=lambda x: -int(x.name)))
  return next(whole, None)


def checkpoints(workdir: str | pathlib.Path) -> pathlib.Path:
  """The folder of a run's checkpoints."""
  place = mirror.address(workdir) or buckets.at(workdir)
  return place.absolute() / "checkpoints"


def _is_whole(step: pathlib.Path) -> bool:
  """Whether a checkpoint was finished; in a bucket its last object says so."""
  is_local = not isinstance(step, buckets.BucketPath)
  return is_local or (step / "commit_success.txt").exists()


def has_checkpoint(workdir: str | pathlib.Path) -> bool:
  """Whether a run has saved a checkpoint, whole or damaged."""
  return _newest(workdir) is not None


def saved_inputs(workdir: str | pathlib.Path) -> dict[str, str] | None:
  """Digests of what a run reads, by the newest checkpoint; None without."""
  step = _newest(workdir)
  return None if step is None else _saved(step, INPUTS)


def _saved(step: pathlib.Path, item: str) -> dict | None:
  """What a checkpoint keeps as JSON; None in those of earlier versions."""
  path = step / item / "metadata"
  if not path.exists():
    return None
  try:
    return dict(json.loads(path.read_text("utf-8")))
  except (ValueError, TypeError) as error:
    raise unreadable(step, "go by the one before", error) from error


def check_arrays(
  step: pathlib.Path, now: dict[str, str], part: str = ""
) -> None:
  """Raises ValueError unless a checkpoint's arrays are those that were saved.

  step: the checkpoint's folder. now: path to what the array holds now
  (models.tree_digest.leaves). part: where the paths of what was read begin. A
  checkpoint of an earlier version has nothing to compare with, which is said.
  """
  path = step / DIGESTS / "metadata"
  if not path.exists():
    logging.warning("%s: an earlier version saved it, without digests", step)
    return
  then = json.loads(path.read_text("utf-8"))
  if not isinstance(then, dict):
    raise ValueError(f"{DIGESTS} is no list of arrays")
  for name in sorted(then.keys() | now.keys()):
    if name.startswith(part) and then.get(name) != now.get(name):
      raise ValueError(f"{name} is not as it was saved")


class Unreadable(ValueError):
  """A checkpoint is damaged; the text says which, and how to go on."""


@contextlib.contextmanager
def reading() -> Iterator[None]:
  """Reading a checkpoint, which says one thing where it fails.

  Its library reads many arrays at once. The first that cannot be read ends the
  loop that the others report to, and each of those then prints a trace of its
  own, at any time: these are left out.
  """
  say = sys.unraisablehook
  sys.unraisablehook = functools.partial(_without_leftovers, say)
  yield  # where it fails, they may still come
  sys.unraisablehook = say


def _without_leftovers(say, what) -> None:
  error = what.exc_value
  if not (type(error) is RuntimeError and "loop is closed" in str(error)):
    say(what)


def unreadable(folder, after, error) -> Unreadable:
  """The error of a checkpoint that must go; `after`: what one can do then."""
  why = in_short(error)
  return Unreadable(
    f"{folder}: this checkpoint cannot be read ({why}); delete that folder to "
    f"{after}"
  )


def claim_workdir(workdir, config, *, free=(), made: Iterable[str] = ()):
  """Writes the run's config, or compares it with those already there.

  These are config.json and, should that be lost or another's, what the newest
  checkpoint keeps. A workdir in which nothing was made yet, by a command that
  failed, may be begun anew.

  config: nested dict. free: dotted keys (or their sections) that may change
  between starts of one run. made: files, beside checkpoints, that a run
  leaves. Raises ValueError naming the keys that differ, or a lost config.json
  that nothing stands in for.
  """
  workdir = pathlib.Path(workdir)
  path, step = workdir / "config.json", _newest(workdir)
  begun = step is not None or any((workdir / name).exists() for name in made)
  saved = None if step is None else _saved(step, CONFIG)
  if begun and saved is None and not path.exists():
    raise ValueError(
      f"{path} is gone, so nothing says which config made what lies there; put "
      "it back, or choose another --workdir"
    )
  _refuse(workdir, differences(saved, config) if saved else (), free)
  _refuse(workdir, claim(path, config, anew=not begun), free)


def _refuse(workdir, found: Iterable[Difference], free):
  """Raises ValueError for differences of keys that are not free."""
  if differing := fixed(found, free):
    raise ValueError(
      f"{workdir} holds a run with another config: {_words(differing)}; "
      "choose another --workdir or the same config"
    )


def _words(found: Iterable[Difference]) -> str:
  return ", ".join(
    f"{key} ({then!r} there, {now!r} now)" for key, then, now in found
  )
