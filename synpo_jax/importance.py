"""Entry: how likely a run finds the tokens that the video decides.

python -m synpo_jax.importance --workdir=runs/demo

The importance of a token of a reference caption is its log-prob before
training with the video in view, minus its log-prob with every frame blanked
to the tower's mean colour: what the video adds. Words that grammar or habit
fix score about zero; colours, places and directions score high. Writes a row
per token with that, and its log-prob before and after training, to the
workdir's importance.jsonl; `synpo_jax.report` draws them.
"""

import itertools
import pathlib

import jax
import ml_collections
import numpy as np
from absl import flags

from synpo_jax.models import sharding
from synpo_jax.runtime import buckets, ending, journal, json_file
from synpo_jax.runtime.flags import WORKDIR, command
from synpo_jax.runtime.settings import PUT_BACK
from synpo_jax.training import checkpoint, job, pair_logps, train_steps, update
from synpo_jax.weights import fingerprint, loading

VIDEOS = flags.DEFINE_integer("videos", 64, "Held-out pairs to use.")


def make_measure(model, scoring):
  """Returns (base, tuned, batch) -> float32 [3, B, R], to be jitted.

  base, tuned: variables before and after training. batch: one micro-batch
  with frames; its first caption of each row is the reference. Stacked are
  the log-probs of its tokens under base, under base without the video, and
  under tuned.
  """

  def measure(base, tuned, batch):
    blank = batch._replace(frames=blanked(model, batch.frames))
    runs = ((base, batch), (base, blank), (tuned, batch))
    logps = [pair_logps.pair_logps(model, v, b, scoring) for v, b in runs]
    return jax.numpy.stack([logps_BCR[:, 0] for logps_BCR in logps])

  return measure


def jitted(c, opened):
  """`make_measure` for a run, jitted as its config's `step` says."""
  scoring = pair_logps.make_scoring(**c.step, mesh=opened.mesh)
  return jax.jit(
    make_measure(opened.model, scoring),
    out_shardings=sharding.replicated(opened.mesh),
  )


def blanked(model, frames):
  """Frames uint8 [B, F, Y, X, 3] of nothing but the tower's mean colour."""
  mean = 255 * np.asarray(model.config.tower.mean)
  colour = np.round(mean).astype(np.uint8)
  return jax.numpy.broadcast_to(colour.reshape(1, 1, 1, 1, 3), frames.shape)


def rows_of(logps, batch, names, tokenizer) -> list[dict]:
  """A row per real token of a micro-batch; see the top of this file."""
  made = []
  for b, row in enumerate(batch.row):
    if row < 0:
      continue
    for t in np.flatnonzero(batch.response_mask[b, 0]):
      before, without, after = (float(x) for x in logps[:, b, t])
      token = int(batch.response[b, 0, t])
      made.append(
        {
          "video": names[row],
          "position": int(t),
          "token": tokenizer.convert_ids_to_tokens(token),
          "importance": before - without,
          "logp_before": before,
          "logp_after": after,
        }
      )
  return made


def before_and_after(c, opened, workdir):
  """A run's variables before training and at its newest checkpoint."""
  mesh, model, _ = opened
  variables = loading.load_variables(model, c.model.checkpoint, mesh, c.seed)
  trained, frozen = update.split(variables, c.trainable)
  steps = train_steps.make_steps(c, model, trained, mesh, updates=1)
  state = steps.init(trained)
  with checkpoint.open_manager(workdir, keep=c.keep_checkpoints) as manager:
    found = checkpoint.restore(manager, checkpoint.abstract(state))
  if found is None:
    raise ValueError(f"{workdir} holds no checkpoint yet")
  after = found[0].trained
  return update.merge(state.trained, frozen), update.merge(after, frozen)


def run(workdir: pathlib.Path, videos: int) -> list[dict]:
  """Measures the newest checkpoint of a run on its held-out pairs."""
  path = workdir / "config.json"
  if not path.exists():
    raise FileNotFoundError(f"{path} not found: --workdir names a training run")
  c = ml_collections.ConfigDict(json_file.read(path, PUT_BACK))
  if not c.heldout.pairs:
    raise ValueError(f"{path}: the run has no heldout.pairs to measure on")
  fingerprint.check_base(workdir, c.model.checkpoint)
  if c.world.clips:
    job.make_world(**c.world)
  opened = job.open_model(c)
  held = job.read_heldout(c, opened)
  base, tuned = before_and_after(c, opened, workdir)
  measure = jitted(c, opened)
  rows = []
  names = [pair.video for pair in held.pairs]
  batches = held.batches
  needed = -(-videos // c.data.batch_size)
  for index in itertools.islice(range(len(batches)), needed):
    host = batches[index].micro(0)
    placed = jax.device_put(host, sharding.rows_sharding(opened.mesh))
    logps = np.asarray(measure(base, tuned, placed))
    rows += rows_of(logps, host, names, opened.texts.tokenizer)
  return rows


@command("workdir")
def main():
  """Measures, and writes the rows into the workdir."""
  workdir = buckets.at(WORKDIR.value)
  rows = run(workdir, VIDEOS.value)
  journal.rewrite(workdir / "importance.jsonl", rows)
  drawn = ("workdir", workdir), ("out", workdir / "report")
  ending.show(
    {f"{len(rows)} tokens": workdir / "importance.jsonl"},
    ending.command("report", *drawn),
  )


if __name__ == "__main__":
  main()
