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
import pathlib

from synpo_jax.data import records
from synpo_jax.planning import inputs, micro_batch
from synpo_jax.reporting import after, gain, result
from synpo_jax.runtime import (
  buckets,
  hosts,
  hub,
  json_file,
  mirror,
  one_writer,
  seal,
  stopping,
)
from synpo_jax.runtime.flags import (
  CONFIG,
  WORKDIR,
  changed,
  command,
  config_name,
  one_line,
)
from synpo_jax.runtime.settings import PUT_BACK
from synpo_jax.runtime.workdir import Unreadable, checkpoints
from synpo_jax.study import controls
from synpo_jax.training import checkpoint, heldout, job, loop
from synpo_jax.weights import loading
from synpo_jax.world.scene import read_scenes

# What a run can meet that is no bug.
MET = (records.Damaged, seal.Broken, Unreadable, checkpoint.OtherRows, OSError)


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
      pin(CONFIG.value, buckets.at(WORKDIR.value))
      inputs.check(CONFIG.value, changed(), config_name())
      if hosts.is_first():  # for all processes of the run
        stack.enter_context(one_writer.held(WORKDIR.value))
      micro_batch.settle(CONFIG.value)
      checkpoint.check_place(checkpoints(WORKDIR.value))
      workdir = stack.enter_context(mirror.kept(WORKDIR.value))
      with hosts.joined():
        ready = job.prepare(CONFIG.value, workdir)
    with hosts.joined():
      if run(ready, CONFIG.value, workdir):
        finish(ready, CONFIG.value, workdir)


def pin(c, workdir: pathlib.Path):
  """Has a model of the hub fetched, at the revision that a run began with."""
  path, name = workdir / "config.json", c.model.checkpoint
  if hub.is_name(name):
    kept = json_file.read(path, PUT_BACK) if path.exists() else {}
    then = kept.get("model", {}).get("checkpoint", "")
    c.model.checkpoint = hub.pinned(name, then)


def run(ready, c, workdir) -> bool:
  """Trains to the end of the schedule, scores, and shows the scores.

  Returns whether that is done; False where a signal asked to stop.
  """
  workdir = pathlib.Path(workdir)
  done = loop.train(ready, c, workdir)
  if int(done.state.step) < ready.data.updates and not done.early:
    return False
  return ready.heldout is None or show(ready, c, done, workdir)


def finish(ready, c, workdir):
  """Draws the curves of a run that is done, and says how to go on."""
  workdir = pathlib.Path(workdir)
  if hosts.is_first():
    with one_line():
      made = result.curves(workdir, table=ready.heldout is None)
    sees = ready.model.config.tower is not None
    after.show(c, workdir, made, sees=sees)


def show(ready, c, done, workdir) -> bool:
  """Scores the held-out pairs and shows the result, unless asked to stop."""
  try:
    with stopping.raising():  # of several processes too, as all is saved
      if not done.stop.is_set():
        now = heldout.score(ready, c, done.state.trained)
        told = _beside_controls(ready, c, done.before, now)
        result.show(done.before.scores, now.scores, workdir, told)
        return True
  except stopping.Stopped:
    pass
  hosts.say(
    f"stopped before the scores: all {ready.data.updates} updates are saved; "
    "start it again to score them"
  )
  return False


def _beside_controls(ready, c, before, now) -> gain.Captions | None:
  """The captions before and after, and what the start gives when nudged."""
  if not now.captions:
    return None
  scenes, written = read_scenes(c.heldout.scenes), {}
  if c.heldout.controls:
    written = controls.write(
      ready.model,
      loading.load_variables(
        ready.model, c.model.checkpoint, ready.mesh, c.seed
      ),
      ready.heldout,
      before.captions,
      now.captions,
      candidates=c.heldout.controls,
      mesh=ready.mesh,
      max_new_tokens=c.heldout.max_new_tokens,
      **ready.texts._asdict(),
    )
  return gain.Captions(scenes, before.captions, now.captions, written)


if __name__ == "__main__":
  main()
