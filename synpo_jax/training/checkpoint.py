"""Checkpoints of a run: training state, data position, configuration."""

import contextlib
import json
import pathlib

import jax
import orbax.checkpoint as ocp

from synpo_jax.runtime import hosts


class Unreadable(ValueError):
  """A checkpoint is damaged; the text says which, and how to go on."""


class OtherRows(ValueError):
  """A run would go on with other rows than it began with."""


class Unwritten(OSError):
  """A checkpoint could not be saved; the text says why."""


@contextlib.contextmanager
def open_manager(workdir, *, keep):
  """An orbax manager on `workdir`/checkpoints that keeps the last `keep`.

  It has written all it was given when the context ends; raises Unwritten.
  """
  options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
  folder = pathlib.Path(workdir).absolute() / "checkpoints"
  manager = ocp.CheckpointManager(folder, options=options)
  try:
    yield manager
  finally:
    with _writing(folder):
      manager.close()


@contextlib.contextmanager
def _writing(folder):
  """What is raised in it, also of earlier steps, is that of writing.

  But for a process that is lost: ConnectionError.
  """
  try:
    with hosts.joined():
      yield
  except ConnectionError:
    raise
  except Exception as error:  # orbax raises this very class, too
    raise Unwritten(
      f"{folder}: a checkpoint cannot be written ({_first_line(error)}); make "
      "room and start again, the run goes on from the last one there"
    ) from error


def _first_line(error) -> str:
  return (str(error).strip().splitlines() or [repr(error)])[0][:200]


def save(manager, step, state, data_state):
  """Starts saving after `step` updates; returns before the bytes are out.

  data_state: what the data iterator's `get_state` returned (JSON). Raises
  Unwritten, which may be of an earlier step.
  """
  with _writing(manager.directory):
    manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        data=ocp.args.JsonSave(data_state),
      ),
    )


def finish(manager):
  """Returns when all is on the disk; raises Unwritten."""
  with _writing(manager.directory):
    manager.wait_until_finished()


def restore(manager, abstract_state):
  """(state, data_state) of the newest checkpoint, or None without one.

  abstract_state: the state as ShapeDtypeStructs with shardings; the mesh may
  differ from the one that saved. Raises Unreadable for damaged files.
  """
  step = manager.latest_step()
  if step is None:
    return None
  try:
    restored = manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(abstract_state),
        data=ocp.args.JsonRestore(),
      ),
    )
  except Exception as error:  # orbax raises this very class, too
    earlier = [other for other in manager.all_steps() if other < step]
    after = f"go on after update {max(earlier)}" if earlier else "start anew"
    raise unreadable(manager.directory / str(step), after, error) from error
  return restored["state"], restored["data"]


def unreadable(folder, after, error) -> Unreadable:
  """The error of a checkpoint that must go; `after`: what one can do then."""
  return Unreadable(
    f"{folder}: this checkpoint cannot be read ({_first_line(error)}); delete "
    f"that folder to {after}"
  )


def abstract(state):
  """The state's shapes, dtypes and shardings, for `restore`."""
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=leaf.sharding
    ),
    state,
  )


def claim_workdir(workdir, config, *, free=()):
  """Writes the run's config, or compares it with the one already there.

  config: nested dict. free: dotted keys (or their sections) that may change
  between starts of one run. Raises ValueError naming the keys that differ.
  """
  workdir = pathlib.Path(workdir)
  path = workdir / "config.json"
  now = json.loads(json.dumps(config, sort_keys=True))
  if not path.exists():
    workdir.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(now, indent=2, sort_keys=True) + "\n")
    partial.replace(path)
    return
  then = json.loads(path.read_text())
  differing = [
    f"{key} ({before!r} there, {after!r} now)"
    for key, before, after in _differences(then, now)
    if not any(key == name or key.startswith(name + ".") for name in free)
  ]
  if differing:
    raise ValueError(
      f"{workdir} holds a run with another config: {', '.join(differing)}; "
      "choose another --workdir or the same config"
    )


def _differences(then, now, prefix=""):
  for key in sorted(then.keys() | now.keys()):
    before, after = then.get(key, "absent"), now.get(key, "absent")
    if isinstance(before, dict) and isinstance(after, dict):
      yield from _differences(before, after, f"{prefix}{key}.")
    elif before != after:
      yield prefix + key, before, after
