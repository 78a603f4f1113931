"""Entry: makes the shipped captioner, from random weights.

python -m synpo_jax.warm_start --config=configs/warm_start.py \
  --workdir=runs/warm_start --out=synpo_jax/assets/tiny

Stages, each in a folder of the workdir and each kept once it is done: the
world's clips, the tower, the careful captioner with its marks, the mixture of
annotators, the pairs that it writes itself. A stop or a kill loses no more than
is made between two checkpoints; the same command goes on. The last captioner
is written to --out, in float16, and its pairs beside it.

With --config=warm_start:smol a language model of 135 million weights learns to
speak of what the shipped tower sees; no pairs are written then.
"""

import os
import pathlib

from rich.console import Console

from synpo_jax.runtime import buckets, ending, hosts, one_writer
from synpo_jax.runtime.flags import CONFIG, OUT, WORKDIR, command
from synpo_jax.study import exam, warming
from synpo_jax.world import folder as world


@command("config", "workdir", "out", kept="the same command goes on")
def main():
  """All stages, one after the other."""
  workdir = buckets.local(WORKDIR.value, "--workdir")
  with one_writer.held(workdir):
    try:
      run(CONFIG.value, workdir, buckets.local(OUT.value, "--out"))
    except warming.Stopped:
      hosts.say("stopped; the same command goes on")


def run(c, workdir: pathlib.Path, out: pathlib.Path) -> None:
  """Makes what is missing of the stages, and writes the last captioner."""
  clips = dict(c.world, heldout=0, workers=os.cpu_count() or 1)
  world.write_world(workdir / "world", **clips)
  begin = warming.join_parts if c.parts.decoder else warming.teach_tower
  careful = warming.teach_careful(c, workdir, begin(c, workdir))
  marks = exam.sit(c, c.run, careful, workdir / "exam")
  Console().print(exam.table(marks))
  mixed = warming.teach_mixture(c, workdir, careful)
  warming.ship(mixed, c.run, out)
  warming.keep_logs(workdir, out)
  made = {"captioner": out, "marks of the careful one": workdir / "exam"}
  if not c.policy.pairs.most:
    claims = (
      ("config", "claims:smol"),
      ("config.run.model.checkpoint", out),
      ("workdir", workdir / "claims"),
    )
    ending.show(made, ending.command("claims", *claims))
    return
  warming.sample_pairs(c, workdir, out)
  train = (
    ("config", "vdc"),
    ("config.model.checkpoint", out),
    ("config.data.pairs", out / "pairs.jsonl"),
    ("config.heldout.pairs", out / "heldout.jsonl"),
    ("workdir", workdir / "run"),
  )
  ending.show(made, ending.command("train", *train))


if __name__ == "__main__":
  main()
