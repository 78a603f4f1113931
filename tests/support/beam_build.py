"""Decodes the videos of a folder by Beam, two in a chunk.

python -m tests.support.beam_build FOLDER CACHE OPTION…
"""

import pathlib
import sys

from synpo_jax.data import beam_shards, shards, video
from synpo_jax.runtime import flags

HOW = dict(
  rule=video.FrameRule(min_frames=2, max_frames=4, frames_per_second=1.0),
  preprocess=video.Preprocess(size=(12, 16)),
  workers=0,
)


def main():
  folder, cache, *options = sys.argv[1:]
  paths = {path.stem: path for path in sorted(pathlib.Path(folder).iterdir())}
  shards.CHUNK = 2
  with flags.one_line():
    beam_shards.build(paths, cache, options=options, **HOW)


if __name__ == "__main__":
  main()
