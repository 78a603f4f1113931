"""make_pairs with a stand-in for the captioner, for tests to start and kill."""

import hashlib
import os
import sys
import time
from pathlib import Path

import av
import numpy as np

from configs import pairs as recipe
from synpo_jax import make_pairs
from synpo_jax.pairing.captioning import Text

WORDS = "a red ball rolls left then a blue box turns and the dog waits".split()


def open_writer(**model):
  """A captioner that draws words by (seed, shot, candidate) and pixels."""

  def write(shots, *, seed, candidates, temperature, **how):
    for shot in shots:
      texts = []
      for candidate in range(candidates):
        mark = f"{seed} {shot.id} {candidate} {shot.frames.sum()}"
        digest = hashlib.sha256(mark.encode()).digest()
        words = " ".join(WORDS[byte % len(WORDS)] for byte in digest[:12])
        texts.append(Text(f"first {words}", f"Then {words}.", 24))
      time.sleep(float(os.environ.get("SLOW", "0")))
      yield shot.id, texts

  return lambda picture: picture, write


def clip(path: Path, frames: int, shade: int):
  """A short grey video with a moving bright bar."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), "w") as file:
    stream = file.add_stream("mpeg4", rate=5)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for index in range(frames):
      picture = np.full((48, 64, 3), shade, np.uint8)
      picture[:, (index * 3) % 60 : (index * 3) % 60 + 4] = 250
      frame = av.VideoFrame.from_ndarray(picture, "rgb24")
      file.mux(stream.encode(frame))
    file.mux(stream.encode())


def config(root, url: str = "", **judge):
  """The documented config, for clips in `root` and a judge nearby."""
  c = recipe.get_config()
  c.root = str(root)
  c.candidates.candidates = 4
  c.judge.openai.update(base_url=url, model="stub", key="sk-secret")
  c.judge.openai.update(first_wait=0.01, longest_wait=1.0, concurrency=4)
  c.judge.openai.update(judge)
  return c


if __name__ == "__main__":
  root, workdir, url = sys.argv[1:4]
  make_pairs.run(config(root, url), Path(workdir), open_writer)
