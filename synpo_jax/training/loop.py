"""The loop: updates from the last checkpoint to the end, or to a signal."""

import functools
import pathlib
import sys
from typing import NamedTuple

import jax
from jax.experimental import multihost_utils

from synpo_jax.data.stream import Stream
from synpo_jax.models import sharding
from synpo_jax.runtime import hosts, progress, stopping
from synpo_jax.runtime.flags import one_line
from synpo_jax.training import checkpoint, heldout, metrics, update
from synpo_jax.training import probe as language


class Outcome(NamedTuple):
  """Where training ended.

  before: scores before the first update; None without held-out pairs.
  stop: set where a signal asked to end.
  """

  state: update.TrainState
  before: heldout.Scored | None
  stop: object


def train(ready, c, workdir) -> Outcome:
  """Trains to the end of the schedule, or to a signal.

  ready: a job.Job. c: its config. Continues the newest checkpoint of workdir.
  """
  workdir = pathlib.Path(workdir)
  stream = Stream(ready.data.batches, c.data.workers)
  with checkpoint.open_manager(workdir, keep=c.keep_checkpoints) as manager:
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
      probe = language.make_probe(ready, c, workdir, int(state.step))
    if probe and not int(state.step):
      probe(0, state.trained)
    with stopping.noted(jax.process_count() > 1) as stop:
      state = loop(ready, c, workdir, state, stream, manager, probe, stop)
  return Outcome(state, before, stop)


def loop(ready, c, workdir, state, stream, manager, probe, stop):
  """Updates until the schedule ends or a signal asks to stop."""
  start, total = int(state.step), ready.data.updates
  log = metrics.NoLog()
  if hosts.is_first():
    log = metrics.open_log(workdir, start_step=start)
  clock, pending = metrics.Clock(), None
  key = jax.random.key(c.seed)
  with progress.bar("update", total, done=start) as advance:
    write = functools.partial(
      write_row, log, advance, ready.steps.rate, c.stop_after_skips
    )
    for number in range(start, total):
      batch = clock.waiting(next_batch, stream, stop)
      if batch is None:
        if pending:  # else it was saved, or nothing was done
          write(*pending)
          save(manager, number, state, stream, ready, c)
        break
      batch = sharding.put_batch(batch, ready.mesh)
      extra = {}
      if c.every.reward_norms and number % c.every.reward_norms == 0:
        extra = ready.steps.reward_norms(state.trained, ready.frozen, batch)
      state, values = ready.steps.train(state, ready.frozen, batch, key)
      if pending:  # fetched only now, so the device never waits for the host
        write(*pending)
      pending = (number, values | extra, clock.lap())
      if probe and (_due(c.every.evaluate, number) or number + 1 == total):
        probe(number + 1, state.trained)
      stopping = number + 1 == total or should_stop(stop, number)
      if stopping or _due(c.every.checkpoint, number):
        write(*pending)  # before the checkpoint: a restart makes none of it
        pending = None
        save(manager, number + 1, state, stream, ready, c)
      if stopping:
        break
  checkpoint.finish(manager)
  log.close()
  stream.close()
  if int(state.step) < total:
    hosts.say(
      f"stopped after update {int(state.step)}; start it again to go on"
    )
  hosts.say(f"compiled {ready.steps.train._cache_size()} train steps")
  return state


def next_batch(stream, stop):
  """The next batch; None where the signal to stop ended its readers, too."""
  try:
    return next(stream)
  except RuntimeError:  # of a worker process that is gone
    if stop.is_set() and jax.process_count() == 1:
      return None
    raise


def save(manager, step, state, stream, ready, c):
  """Saves a state, where the data stands, the config and what is read."""
  position = stream.get_state() | {"rows": ready.data.batches.digest}
  checkpoint.save(manager, step, state, position, c.to_dict(), ready.inputs)


def _due(every, number):
  return every and (number + 1) % every == 0


def write_row(log, advance, rate, most_skips, number, values, lap):
  """Writes the metrics of update `number`; ends a run that only skips."""
  values = {k: float(v) for k, v in jax.device_get(values).items()}
  row = {"step": number + 1, **values, "lr": float(rate(number))}
  log.write(row | metrics.rates(row["pairs"], row["tokens"], lap))
  advance(note=f"loss {row['loss']:.4f}")
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
