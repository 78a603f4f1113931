"""Captions of a few held-out videos, before and now, for trackers to show."""

import json
import pathlib

import numpy as np
from PIL import Image

from synpo_jax.runtime import journal, json_file

FRAMES = 8  # of a strip


def rows(made: dict[str, str], held, workdir: pathlib.Path, step: int):
  """[{video, frames, before, now}] of captions {video: text} written now.

  held: the pipeline.Data of the videos. frames: the path of a PNG, made here;
  None where the model sees no video. Captions of step 0 are kept as those
  before; before is None for a video that they lack.
  """
  folder = workdir / "samples"
  before = folder / "before.json"
  if not step:
    journal.replace(before, json.dumps(made, ensure_ascii=False).encode())
  then = json_file.read(before) if before.exists() else {}
  return [
    {
      "video": str(video),
      "frames": strip(held, video, folder / f"{number}.png"),
      "before": then.get(video),
      "now": caption,
    }
    for number, (video, caption) in enumerate(made.items())
  ]


def strip(held, video: str, path: pathlib.Path) -> str | None:
  """Writes the frames of a video beside one another; returns the path."""
  if held.frames is None or video is None:
    return None
  if not path.exists():
    frames = held.frames(held.videos.index(video))
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = frames[:: -(-len(frames) // FRAMES)]
    Image.fromarray(np.concatenate(list(shown), axis=1)).save(path)
  return str(path.absolute())
