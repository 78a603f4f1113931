"""The trackers that a run's rows also go to: the `log` section of its config.

All are views of metrics.jsonl and eval.jsonl, under the same names. TensorBoard
is written here; the others are clients in processes of their own.
"""

import importlib.util
import pathlib
import secrets

from synpo_jax.runtime import journal, json_file, names
from synpo_jax.training import tracker
from synpo_jax.training.relay import Relay

# What has to be installed for those that do not come along.
PACKAGES = {
  "wandb": "wandb",
  "trackio": "'trackio>=0.20,<0.21'",  # requirements-trackio.txt has why
  "mlflow": "mlflow-skinny",
}


def check(to) -> None:
  """Raises ValueError, one line, for a tracker unknown or not installed."""
  for name in to:
    known = ["tensorboard", *PACKAGES]
    if name not in known:
      raise ValueError(
        f"log.to={name!r}: no such tracker; nearest: "
        f"{names.nearest(name, known)}; give "
        """--config.log.to='("tensorboard", "wandb")'"""
      )
    if name in PACKAGES and importlib.util.find_spec(name) is None:
      raise ValueError(
        f"log.to names {name}, which is not installed: "
        f"pip install {PACKAGES[name]}"
      )


def start(c, workdir: pathlib.Path, start_step: int) -> list:
  """The trackers of a config, begun or continued after `start_step`.

  Each has write(row), show(step, rows) and close(), which never raise for what
  the tracker cannot take.
  """
  check(c.log.to)
  found = []
  for name in c.log.to:
    if name == "tensorboard":
      folder = workdir / "events"
      found.append(tracker.Events(folder, purge_step=start_step + 1))
    else:
      found.append(Relay(name, _told(c, workdir)))
  return found


def _told(c, workdir) -> dict:
  return {
    "project": c.log.project,
    "id": run_id(workdir),
    "name": workdir.absolute().name,
    "config": c.to_dict(),
    "folder": str(workdir.absolute()),
  }


def run_id(workdir: pathlib.Path) -> str:
  """The name by which trackers know a run, drawn once and kept."""
  path = workdir / "trackers.json"
  if not path.exists():
    made = f'{{"id": "{secrets.token_hex(4)}"}}\n'
    journal.replace(path, made.encode())
  return json_file.read(path)["id"]
