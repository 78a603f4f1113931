"""make_pairs with a stand-in for the captioner, for tests to start and kill."""

import hashlib
import json
import os
import random
import re
import sys
import time
from pathlib import Path

import av
import numpy as np

from configs import pairs as recipe
from synpo_jax import make_pairs
from synpo_jax.generation.shots import Captioned, Text
from tests.support import captioner_server, known_answers
from tests.support.judge_server import chat

WORDS = "a red ball rolls left then a blue box turns and the dog waits".split()


class Writer:
  """Draws words by (seed, shot, candidate) and pixels, in their order."""

  def prepare(self, picture, count):
    return picture

  def write(self, shots, ask):
    for shot in shots:
      texts, seen = [], hashlib.sha256(shot.frames.tobytes()).hexdigest()
      for candidate in range(ask.candidates):
        mark = f"{ask.seed} {shot.name} {candidate} {seen}"
        digest = hashlib.sha256(mark.encode()).digest()
        words = " ".join(WORDS[byte % len(WORDS)] for byte in digest[:12])
        texts.append(Text(f"first {words}", f"Then {words}.", 24))
      time.sleep(float(os.environ.get("SLOW", "0")))
      yield Captioned(shot.id, shot.part, texts)


def open_writer(placing, **model):
  """The stand-in, whatever the settings."""
  return Writer()


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


def clips(root: Path) -> Path:
  """Fills a folder with six small clips and a file that is none."""
  for i in range(6):
    clip(root / "deep" / f"v{i}.mp4", 12 + 30 * i, 20 + 30 * i)
  (root / "deep" / "broken.mp4").write_bytes(b"no video at all")
  return root


CAPTION = re.compile(r"<caption>\n(.*?)\n</caption>", re.DOTALL)


def kind_of(text):
  if "captions below" in text:
    return "consistency"
  return "factuality" if "Caption 1, the one to check" in text else "fluency"


def verdict(kind, caption):
  """The stub judge's score: any function of criterion and caption will do."""
  high = {"factuality": 6, "fluency": 6, "consistency": 4}[kind]
  return random.Random(f"{kind} {caption.strip()}").randrange(high)


def honest(n, body):
  """A judge that answers as asked; consistency scores come out of order.

  What it is tried with it answers rightly.
  """
  if known := known_answers.reply(body):
    return known
  text = body["messages"][-1]["content"]
  kind, captions = kind_of(text), CAPTION.findall(text)
  if kind != "consistency":
    return chat(
      json.dumps({"reason": "r", "score": verdict(kind, captions[0])})
    )
  scores = [
    {"caption": i, "score": verdict(kind, caption)}
    for i, caption in enumerate(captions, 1)
  ]
  return chat(json.dumps({"reason": "r", "scores": scores[::-1]}))


def config(root, url: str = "", **judge):
  """The documented config, for clips in `root` and a judge nearby."""
  c = recipe.get_config()
  c.root = str(root)
  c.candidates.candidates = 4
  c.judge.openai.update(base_url=url, model="stub", key="sk-secret")
  c.judge.openai.update(first_wait=0.01, longest_wait=1.0, concurrency=4)
  c.judge.openai.update(judge)
  return c


def served(root, url: str, **changes):
  """The same with a captioner behind that endpoint."""
  c = config(root, url)
  c.model.endpoint = url
  c.serving.update(model="served", first_wait=0.01, concurrency=4)
  c.serving.update(changes)
  return c


def both(n, body):
  """A judge and a captioner on one server, both honest."""
  asked = captioner_server.is_captioning(body)
  return captioner_server.honest(n, body) if asked else honest(n, body)


if __name__ == "__main__":
  root, workdir, url = sys.argv[1:4]
  c = served(root, url) if "SERVED" in os.environ else config(root, url)
  make_pairs.run(c, Path(workdir), open_writer)
