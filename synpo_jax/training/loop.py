"""The loop: updates from the last checkpoint to the end, or to a signal."""

import functools
import pathlib
import sys
from typing import NamedTuple

import jax
from jax.experimental import multihost_utils

from synpo_jax.data.stream import Stream
from synpo_jax.models import sharding
from synpo_jax.runtime import hosts, mirror, progress, stopping
from synpo_jax.runtime.flags import one_line
from synpo_jax.training import (
  best,
  caches,
  checkpoint,
  heldout,
  metrics,
  tracking,
  update,
)
from synpo_jax.training import probe as language


class Outcome(NamedTuple):
  """Where training ended.

  before: scores before the first update; None without held-out pairs.
  stop: set where a signal asked to end. early: whether keep.patience did.
  """

  state: update.TrainState
  before: heldout.Scored | None
  stop: object
  early: bool


def train(ready, c, workdir) -> Outcome:
  """Trains to the end of the schedule, or to a signal.

  ready: a job.Job, whose tower leaves the devices where updates do without it.
  c: its config. Continues the newest checkpoint of workdir.
  """
  workdir = pathlib.Path(workdir)
  stream = Stream(ready.data.batches, c.data.workers)
  with (
    checkpoint.open_manager(workdir, keep=c.keep_checkpoints) as manager,
    best.opened(c, workdir) as keeper,
  ):
    found = checkpoint.restore(manager, checkpoint.abstract(ready.state))
    state = ready.state
    if found is not None:
      state, position = found
      checkpoint.same_rows(ready.data.batches, position["rows"], workdir)
      stream.set_state(position)
      hosts.say(
        f"continuing after update {int(state.step)} of {ready.data.updates}"
      )
    before = heldout.score_before(ready, c, state, workdir)
    with one_line():
      log = open_log(c, workdir, int(state.step))
      probe = language.make_probe(ready, c, workdir, int(state.step), log)
    caches.let_go(ready.tower)  # all features are cached
    keeper.forget_after(int(state.step))
    if probe and not int(state.step):
      probe(0, state.trained)
    if keeper.is_new(int(state.step)):  # of the start, or killed before it was
      keep_best(keeper, int(state.step), state, stream, ready)
    saved = Saved(manager, keeper, log, workdir)
    with stopping.noted(jax.process_count() > 1) as stop:
      state = loop(ready, c, saved, state, stream, probe, stop)
    keeper.say()
    return Outcome(state, before, stop, keeper.is_over())


class Saved(NamedTuple):
  """Where a run is written: checkpoints, the best of them, rows."""

  manager: object
  keeper: best.Keeper
  log: object
  workdir: pathlib.Path


def open_log(c, workdir, start: int):
  """The run's log and its trackers, on the process that writes them."""
  if not hosts.is_first():
    return metrics.NoLog()
  trackers = tracking.start(c, workdir, start)
  return metrics.open_log(workdir, start_step=start, trackers=trackers)


def loop(ready, c, saved, state, stream, probe, stop):
  """Updates until the schedule, or patience, ends or a signal asks to stop."""
  manager, keeper, log, workdir = saved
  start, total = int(state.step), ready.data.updates
  clock, pending, kept, met = metrics.Clock(), None, start, set()
  key = jax.random.key(c.seed)
  with progress.bar("update", total, done=start) as advance:
    write = functools.partial(
      write_row, log, advance, clock, ready.steps.rate, c.stop_after_skips
    )
    for number in range(start, start if keeper.is_over() else total):
      batch = clock.waiting(next_batch, stream, stop)
      if batch is None:
        if pending:
          write(*pending)
        if number > kept:
          save(manager, number, state, stream, ready, c, workdir)
        break
      measured = c.every.reward_norms and number % c.every.reward_norms == 0
      kind = measured, *(leaf.shape for leaf in jax.tree.leaves(batch))
      if pending and kind not in met:  # before what is compiled, not with it
        pending = write(*pending)
      batch, extra = sharding.put_batch(batch, ready.mesh), {}
      if measured:
        extra = ready.steps.reward_norms(state.trained, ready.frozen, batch)
      state, values = ready.steps.train(state, ready.frozen, batch, key)
      if pending:  # fetched only now, so the device never waits for the host
        write(*pending)
      pending = (number, values | extra, kind in met)
      met.add(kind)
      is_best = over = False
      if probe and (_due(c.every.evaluate, number) or number + 1 == total):
        pending = write(*pending)  # None: the update has ended
        with clock.aside():
          probe(number + 1, state.trained)
        is_best, over = keeper.is_new(number + 1), keeper.is_over()
      stopping = over or number + 1 == total or should_stop(stop, number)
      if stopping or is_best or _due(c.every.checkpoint, number):
        if pending:  # before the checkpoint: a restart makes none of it
          pending = write(*pending)
        with clock.aside():
          save(manager, number + 1, state, stream, ready, c, workdir)
          kept = number + 1
          if is_best:
            checkpoint.finish(manager)  # first: a restart begins no earlier
            keep_best(keeper, number + 1, state, stream, ready)
      if stopping:
        break
  close(ready, saved, state, stream, c.keep.patience)
  return state


def close(ready, saved, state, stream, patience):
  """Ends what a loop wrote and read, and says where it stands."""
  checkpoint.finish(saved.manager)
  saved.log.close()
  stream.close()
  if saved.keeper.is_over():
    hosts.say(f"no better since {patience} evaluations: done")
  elif int(state.step) < ready.data.updates:
    hosts.say(
      f"stopped after update {int(state.step)}; start it again to go on"
    )
  hosts.say(f"compiled {ready.steps.train._cache_size()} train steps")


def next_batch(stream, stop):
  """The next batch; None where the signal to stop ended its readers, too."""
  try:
    return next(stream)
  except RuntimeError:  # of a worker process that is gone
    if stop.is_set() and jax.process_count() == 1:
      return None
    raise


def save(manager, step, state, stream, ready, c, workdir):
  """Saves a state, where the data stands, the config and what is read.

  What the run wrote down until then is out before.
  """
  mirror.push(workdir)
  position = stream.get_state() | {"rows": ready.data.batches.digest}
  checkpoint.save(manager, step, state, position, c.to_dict(), ready.inputs)


def keep_best(keeper, step, state, stream, ready):
  """Keeps a state as the run's best so far."""
  position = stream.get_state() | {"rows": ready.data.batches.digest}
  keeper.save(step, state, position, ready.inputs)


def _due(every, number):
  return every and (number + 1) % every == 0


def write_row(log, advance, clock, rate, most_skips, number, values, usual):
  """Writes the metrics of update `number`; ends a run that only skips.

  usual: whether nothing was compiled for it.
  """
  values = {k: float(v) for k, v in jax.device_get(values).items()}
  lap = clock.lap()  # to the end of the update, which was waited for
  row = {"step": number + 1, **values, "lr": float(rate(number))}
  log.write(row | metrics.rates(row["pairs"], row["tokens"], lap))
  advance(note=f"loss {row['loss']:.4f}", usual=usual)
  if row["skipped_in_a_row"] >= most_skips:
    log.close()
    sys.exit(
      f"error: {most_skips} updates in a row had no finite loss or gradient "
      f"(up to update {number + 1}); lower optim.lr, or look at the data"
    )


def should_stop(stop, number) -> bool:
  """Whether to save and leave after this update, on all processes alike."""
  if jax.process_count() > 1:
    return multihost_utils.reached_preemption_sync_point(number)
  return stop.is_set()
