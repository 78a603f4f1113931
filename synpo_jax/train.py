"""Entry: trains a captioner on preference pairs.

python -m synpo_jax.train --config=configs/vdc.py --workdir=runs/demo

The same command continues a run that was stopped. On SIGINT (Ctrl-C), SIGHUP
or SIGTERM it saves after the update that is under way and leaves with 0; so it
does while it scores at the end, when all is saved. Before the first update
there is nothing to save, and it leaves with 128 and the signal's number, as
every other command. A second SIGINT ends it at once; then, and after kill -9,
the same command starts at the last checkpoint.
"""

import contextlib
import functools
import pathlib
import sys

import jax
from jax.experimental import multihost_utils

from synpo_jax.data import pipeline, records
from synpo_jax.models import sharding
from synpo_jax.planning import inputs
from synpo_jax.reporting import result
from synpo_jax.runtime import hosts, one_writer, progress, stopping
from synpo_jax.runtime.flags import (
  CONFIG,
  WORKDIR,
  changed,
  command,
  config_name,
  one_line,
)
from synpo_jax.runtime.workdir import Unreadable
from synpo_jax.training import checkpoint, heldout, job, metrics
from synpo_jax.training import probe as language

# What a run can meet that is no bug.
MET = (records.Damaged, Unreadable, checkpoint.OtherRows, OSError)


@command(
  "config",
  "workdir",
  also=hosts.FLAGS,
  errors=MET,
  kept="what was decoded, cached and saved is kept; the same command goes on",
)
def main():
  """Makes all that the run needs, and trains."""
  with contextlib.ExitStack() as stack:
    with one_line():
      hosts.start()
      inputs.check(CONFIG.value, changed(), config_name())
      if hosts.is_first():  # for all processes of the run
        stack.enter_context(one_writer.held(WORKDIR.value))
      with hosts.joined():
        ready = job.prepare(CONFIG.value, WORKDIR.value)
    with hosts.joined():
      run(ready, CONFIG.value, WORKDIR.value)


def run(ready, c, workdir):
  """Trains to the end of the schedule, or to a signal; shows the result."""
  workdir = pathlib.Path(workdir)
  stream = pipeline.Stream(ready.data.batches, c.data.workers)
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
    before = heldout.scores_before(ready, c, state, workdir)
    probe = language.make_probe(ready, c, workdir, int(state.step))
    if probe and not int(state.step):
      probe(0, state.trained)
    with stopping.noted(jax.process_count() > 1) as stop:
      state = loop(ready, c, workdir, state, stream, manager, probe, stop)
  finished = int(state.step) == ready.data.updates
  if finished and ready.heldout is not None:
    show(ready, c, state, before, workdir, stop)


def show(ready, c, state, before, workdir, stop):
  """Scores the held-out pairs and shows the result, unless asked to stop."""
  try:
    with stopping.raising():  # of several processes too, as all is saved
      if not stop.is_set():
        scores = heldout.scores(ready, c, state.trained)
        result.show(before, scores, workdir)
        return
  except stopping.Stopped:
    pass
  hosts.say(
    f"stopped before the scores: all {ready.data.updates} updates are saved; "
    "start it again to score them"
  )


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


if __name__ == "__main__":
  main()
