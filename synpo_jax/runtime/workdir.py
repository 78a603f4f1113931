"""A run on disk: its config, its newest checkpoint."""

import json
import pathlib

from absl import logging

from synpo_jax.runtime.settings import claim
from synpo_jax.runtime.terminal import first_line

DIGESTS = "digests"  # of a checkpoint: what each of its arrays holds


def is_run(folder: str | pathlib.Path) -> bool:
  """Whether this is the workdir of a training run of ours."""
  folder = pathlib.Path(folder)
  return (folder / "config.json").exists() and (folder / "checkpoints").is_dir()


def run_config(workdir: str | pathlib.Path) -> dict:
  """The config that a run was started with, as nested dicts."""
  return json.loads((pathlib.Path(workdir) / "config.json").read_text())


def newest(workdir: str | pathlib.Path) -> pathlib.Path:
  """The folder of a run's newest checkpoint, named after its step.

  One that is still being written has another name.
  """
  folder = pathlib.Path(workdir).absolute() / "checkpoints"
  steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
  if not steps:
    raise FileNotFoundError(f"{workdir}: the run has saved no checkpoint yet")
  return folder / str(max(steps))


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


def unreadable(folder, after, error) -> Unreadable:
  """The error of a checkpoint that must go; `after`: what one can do then."""
  why = first_line(error)[:200]
  return Unreadable(
    f"{folder}: this checkpoint cannot be read ({why}); delete that folder to "
    f"{after}"
  )


def claim_workdir(workdir, config, *, free=()):
  """Writes the run's config, or compares it with the one already there.

  config: nested dict. free: dotted keys (or their sections) that may change
  between starts of one run. Raises ValueError naming the keys that differ.
  """
  differing = [
    f"{key} ({then!r} there, {now!r} now)"
    for key, then, now in claim(pathlib.Path(workdir) / "config.json", config)
    if not any(key == name or key.startswith(name + ".") for name in free)
  ]
  if differing:
    raise ValueError(
      f"{workdir} holds a run with another config: {', '.join(differing)}; "
      "choose another --workdir or the same config"
    )
