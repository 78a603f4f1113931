"""Rounds of seconds: a captioner's stand-in, real clips, a stub judge.

python -m tests.support.small_rounds FOLDER WORKDIR URL NAME AT ends itself by
SIGKILL when it has written so many times to files of that name.
"""

import functools
import json
import os
import pathlib
import signal
import sys
import types

import jax

from configs import eval_vatex
from configs import rounds as recipe
from synpo_jax import rounds
from synpo_jax.evaluation import meteor
from synpo_jax.models import sharding
from synpo_jax.runtime import journal
from synpo_jax.weights import fingerprint
from tests.support import clips, fake_pairs, small_captioner

CLIPS = 4


def prepare(folder: pathlib.Path):
  """The captioner, the clips, and references for two of them."""
  small_captioner.write_captioner(folder / "captioner")
  (folder / "clips").mkdir()
  for number in range(CLIPS):
    clips.stamped(folder / "clips" / f"{number}.mp4", 6 + number, rate=2)
  rows = [
    {"videoID": str(number), "enCap": ["A box of black and white cells."]}
    for number in range(2)
  ]
  (folder / "references.json").write_text(json.dumps(rows))


def config(folder: pathlib.Path, url: str):
  """The documented config with smaller numbers, and a judge nearby."""
  c = recipe.get_config()
  c.checkpoint = str(folder / "captioner")
  c.train.world.clips = 0
  c.pairs.videos, c.pairs.root = "*.mp4", str(folder / "clips")
  c.pairs.judge.kind = "openai"
  c.pairs.judge.openai.update(base_url=url, model="stub", first_wait=0.01)
  c.pairs.judge.openai.concurrency = 1
  frames = dict(min_frames=2, max_frames=2)
  c.pairs.clips.update(frames=2, max_new_tokens=4)
  c.pairs.candidates.update(candidates=3, max_new_tokens=6)
  c.pairs.candidates.frames.update(frames)
  c.pairs.pairs.update(negative="worst", least_gap=None, tolerance=None)
  c.train.lora.update(rank=2, alpha=2.0)
  c.train.frames.update(frames)
  c.train.data.update(
    cache=str(folder / "shards"),
    min_score_gap=0.0,
    batch_size=2,
    prefix_buckets=256,
    response_buckets=(48,),
    frame_buckets=(2,),
  )
  c.train.epochs = 1
  c.train.every.checkpoint = 1
  c.evaluate = eval_vatex.get_config()
  c.evaluate.root = str(folder / "clips")
  c.evaluate.data.references = str(folder / "references.json")
  c.evaluate.model.dtype = "float32"
  c.evaluate.captions.max_new_tokens = 6
  c.evaluate.frames.update(frames)
  return c


def lean():
  """One device, and no METEOR, whose Java takes seconds; returns an undo."""
  make, missing = sharding.make_mesh, meteor.missing
  sharding.make_mesh = functools.partial(make, devices=jax.devices()[:1])
  meteor.missing = lambda: "left out"

  def undo():
    sharding.make_mesh, meteor.missing = make, missing

  return undo


def open_writer(placing, **model):
  """Draws words by the weights, as a captioner would that learned."""
  by = fingerprint.captioner(model["checkpoint"], model["adapter"])
  return Writer(by)


class Writer(fake_pairs.Writer):
  """The stand-in of fake_pairs, whose words the weights decide, too."""

  def __init__(self, by):
    self.by = by

  def write(self, shots, ask):
    seed = f"{self.by} {ask.seed}"
    fields = dict(seed=seed, candidates=ask.candidates)
    return super().write(shots, types.SimpleNamespace(**fields))


def stop_at(name: str, count: int, stop):
  """Calls `stop` after so many writes to files whose path ends like this.

  Returns what undoes that.
  """
  write, left = journal.write, [count]

  def counted(handle, line, path):
    write(handle, line, path)
    left[0] -= str(path).endswith(name)
    if not left[0]:
      stop()

  journal.write = counted

  def undo():
    journal.write = write

  return undo


if __name__ == "__main__":
  place, out, address, name, number = sys.argv[1:]
  lean()
  stop_at(name, int(number), lambda: os.kill(os.getpid(), signal.SIGKILL))
  rounds.run(config(pathlib.Path(place), address), out, open_writer)
