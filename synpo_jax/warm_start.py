"""Entry: makes the shipped captioner, from random weights.

python -m synpo_jax.warm_start --config=configs/warm_start.py \
  --workdir=runs/warm_start --out=synpo_jax/assets/tiny

Stages, each in a folder of the workdir and each kept once it is done: the
world's clips, the tower, the careful captioner with its marks, the mixture of
annotators. A stop or a kill loses no more than is made between two
checkpoints; the same command goes on. The last stage's captioner is written
to --out, in float16.
"""

import os
import pathlib

from synpo_jax.runtime import hosts
from synpo_jax.runtime.flags import CONFIG, OUT, WORKDIR, command
from synpo_jax.study import warming
from synpo_jax.world import folder as world


@command("config", "workdir", "out", kept="the same command goes on")
def main():
  """All stages, one after the other."""
  c, workdir = CONFIG.value, pathlib.Path(WORKDIR.value)
  hosts.start()
  workers = os.cpu_count() or 1
  clips = dict(c.world, heldout=0, workers=workers)
  world.write_world(workdir / "world", **clips)
  seen = warming.teach_tower(c, workdir)
  careful = warming.teach_captions(c, workdir, seen)
  print(careful)


if __name__ == "__main__":
  main()
