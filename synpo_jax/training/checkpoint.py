"""Checkpoints of a run: training state, data position, configuration."""

import contextlib
import logging as standard_logging
import pathlib
import sys

import jax
import orbax.checkpoint as ocp
from absl import logging

from synpo_jax.models import tree_digest
from synpo_jax.runtime import buckets, hosts
from synpo_jax.runtime.terminal import in_short
from synpo_jax.runtime.workdir import (
  CONFIG,
  DIGESTS,
  INPUTS,
  check_arrays,
  checkpoints,
  reading,
  unreadable,
)

# Files of orbax whose threads log an error that they then hand over.
THREADS = ("future.py", "async_checkpointer.py", "checkpoint_manager.py")


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
  folder = checkpoints(workdir)
  check_place(folder)
  with _without_traces():
    manager = ocp.CheckpointManager(str(folder), options=options)
    try:
      yield manager
    finally:
      with _writing(folder):
        manager.close()


def check_place(folder: pathlib.Path) -> None:
  """Raises ValueError for a place that checkpoints cannot be written to."""
  if isinstance(folder, buckets.BucketPath) and folder.parts[0] != "gs:":
    raise ValueError(
      f"--workdir={folder.parent}: checkpoints go to disks and to gs:// alone "
      "(the library that writes them knows no other store)"
    )


@contextlib.contextmanager
def _without_traces():
  """Leaves out traces of what orbax raises as well.

  They come from its threads, which log them, and from writes that end after
  the first that failed, when the loop they belonged to is closed; asyncio logs
  those once they are collected, which may be later.
  """

  def print_others(kind, error, trace):
    if kind is not RuntimeError or str(error) != "Event loop is closed":
      hook(kind, error, trace)

  logger, hook = logging.get_absl_logger(), sys.excepthook
  logger.addFilter(_is_said_once)
  standard_logging.getLogger("asyncio").addFilter(_is_retrieved)
  sys.excepthook = print_others
  try:
    yield
  finally:
    sys.excepthook = hook
    logger.removeFilter(_is_said_once)


def _is_said_once(record) -> bool:
  file = pathlib.PurePath(record.pathname).name
  return not (record.exc_info and file in THREADS)


def _is_retrieved(record) -> bool:
  return "exception was never retrieved" not in record.getMessage()


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
    why = in_short(error)
    raise Unwritten(
      f"{folder}: a checkpoint cannot be written ({why}); make room and start "
      "again, the run goes on from the last one there"
    ) from error


def same_rows(batches, begun: str, workdir):
  """Raises OtherRows unless `begun` is the batches' digest."""
  if batches.digest != begun:
    raise OtherRows(
      f"{workdir}: rows of data.pairs, or their videos, are not those that the "
      "run began with, or a mesh that splits rows otherwise shares them "
      "(data.packing); put them back, or choose another --workdir"
    )


def save(manager, step, state, data_state, config, inputs):
  """Starts saving after `step` updates; returns before the bytes are out.

  data_state: what the data iterator's `get_state` returned (JSON), its "next"
  being `step`. config: the run's, as nested dicts. inputs: what it reads, by
  content (inputs.claim). A digest of every array is saved with them. Raises
  Unwritten, which may be of an earlier step.
  """
  kept = {DIGESTS: tree_digest.leaves(state), CONFIG: config, INPUTS: inputs}
  with _writing(manager.directory):
    manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        data=ocp.args.JsonSave(data_state),
        **{name: ocp.args.JsonSave(value) for name, value in kept.items()},
      ),
    )


def finish(manager):
  """Returns when all is on the disk; raises Unwritten."""
  with _writing(manager.directory):
    manager.wait_until_finished()


def restore(manager, abstract_state):
  """(state, data_state) of the newest checkpoint, or None without one.

  abstract_state: the state as ShapeDtypeStructs with shardings; the mesh may
  differ from the one that saved. Raises Unreadable for damaged files: those
  that cannot be read, whose arrays are not as they were saved, or whose
  position in the data is that of another step.
  """
  step = manager.latest_step()
  if step is None:
    return None
  folder = buckets.at(str(manager.directory)) / str(step)
  try:
    parts = dict(
      state=ocp.args.StandardRestore(abstract_state),
      data=ocp.args.JsonRestore(),
    )
    with reading():
      restored = manager.restore(step, args=ocp.args.Composite(**parts))
    state, position = restored["state"], restored["data"]
    check_arrays(folder, tree_digest.leaves(state))
    if position["next"] != step:
      raise ValueError(f"its data stands at update {position['next']}")
  except Exception as error:  # orbax raises this very class, too
    earlier = [other for other in manager.all_steps() if other < step]
    after = f"go on after update {max(earlier)}" if earlier else "start anew"
    raise unreadable(folder, after, error) from error
  return state, position


def abstract(state):
  """The state's shapes, dtypes and shardings, for `restore`."""
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=leaf.sharding
    ),
    state,
  )
