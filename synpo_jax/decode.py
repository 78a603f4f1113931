"""Entry: decodes the videos of a training config into its cache, no more.

python -m synpo_jax.decode --config=configs/vdc.py
python -m synpo_jax.decode --config=configs/vdc.py --beam_pipeline_options=\\
  runner=DirectRunner,direct_running_mode=multi_processing,direct_num_workers=4

A run with the same data, frames and pixels finds them in data.cache, whichever
way they were decoded: the files are the same. The options are those of any
runner of Apache Beam, as tensorflow-datasets takes them: with DataflowRunner or
FlinkRunner all workers need synpo_jax, the videos and data.cache (a bucket, or
a disk that all share). The same command goes on where it was stopped; a video
that cannot be decoded is listed in quarantine.jsonl, as in training.
"""

import functools

from absl import flags

from synpo_jax import losses
from synpo_jax.data import beam_shards, pairs, pipeline, shards
from synpo_jax.runtime import ending, hub
from synpo_jax.runtime.flags import CONFIG, command, given_again
from synpo_jax.training import job
from synpo_jax.weights import config_reading

OPTIONS = flags.DEFINE_list(
  "beam_pipeline_options",
  [],
  "Options of Apache Beam, as runner=DirectRunner,direct_num_workers=4; "
  "without any this process decodes, with data.workers others.",
)


@command("config", kept="what was decoded is kept; the same command goes on")
def main():
  """Decodes the videos of the pairs, and of the held-out pairs."""
  c = CONFIG.value
  c.model.checkpoint = hub.pinned(c.model.checkpoint)
  sizes = config_reading.captioner_config(
    c.model.checkpoint or c.model.arch.to_dict()
  )
  if sizes.tower is None:
    raise ValueError("the model is a language model and sees no video")
  if c.world.clips:
    job.make_world(**c.world)
  build = shards.build
  if OPTIONS.value:
    build = functools.partial(beam_shards.build, options=OPTIONS.value)
  for rows in wanted(c):
    show(rows, decode(c, rows, sizes, build))
  workdir = ("workdir", "runs/synpo")
  ending.show({}, ending.command("train", *given_again(), workdir))


def wanted(c) -> list[dict]:
  """What differs of the `data` section for each file of rows of a run."""
  loss = losses.make(**c.loss.to_dict())
  own = dict(pairs=c.data.pairs, captions=loss.captions)
  if not c.heldout.pairs:
    return [own]
  held = dict(pairs=c.heldout.pairs, videos=c.heldout.videos)
  captions = max(2, loss.captions)
  return [own, dict(held, captions=captions, min_score_gap=loss.all_pairs)]


def decode(c, rows: dict, config, build) -> shards.Store | None:
  """Decodes the videos of one file of rows."""
  changes = {name: rows[name] for name in rows if name != "captions"}
  settings = pipeline.Settings(**c.data.to_dict() | changes)
  read = pairs.read_pairs(
    settings.pairs,
    question=settings.question,
    captions=rows["captions"],
    min_score_gap=settings.min_score_gap,
  )
  as_run = job.frames_as(c, job.seen(c, config))
  return pipeline.decoded(read.pairs, settings, build=build, **as_run)


def show(rows: dict, store: shards.Store | None) -> None:
  """Says how many videos of a file of rows there are, and where."""
  if store is None:
    print(f"{rows['pairs']}: no row names a video")
    return
  print(
    f"{rows['pairs']}: {len(store.places)} videos in {store.report.parent}, "
    f"{len(store.quarantined)} quarantined (see {store.report.name})"
  )


if __name__ == "__main__":
  main()
