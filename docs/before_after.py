"""Draws the README's picture: held-out clips, captions before and after.

python docs/before_after.py --workdir=runs/demo

Reads what `make demo` left: the run, the clips and their scene graphs. Takes
the first held-out clips as they come, writes a greedy caption of each with the
captioner as it was and as it is now, and marks both exactly.
"""

import argparse
import json
import pathlib
import tempfile
import textwrap

import matplotlib
from rich.console import Console

from configs import caption as recipe
from synpo_jax import caption
from synpo_jax.data import video
from synpo_jax.runtime.workdir import run_config
from synpo_jax.world import scene, truth

FRAMES, COLUMNS = 6, 62  # frames in a strip, characters in a line
SIZE, LINE = 9, 13  # of letters and from line to line, in points
RIGHT, WRONG = "#1a7f37", "#c62828"


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workdir", default="runs/demo", help="of the run")
  parser.add_argument("--out", default="docs/before_after.png")
  parser.add_argument("--clips", type=int, default=2)
  args = parser.parse_args()
  c = run_config(args.workdir)
  names = heldout_names(c)[: args.clips]
  scenes = scene.read_scenes(c["heldout"]["scenes"])
  with tempfile.TemporaryDirectory() as folder:
    before = captions(c, names, "", pathlib.Path(folder) / "before.jsonl")
    after = captions(
      c, names, args.workdir, pathlib.Path(folder) / "after.jsonl"
    )
  draw(c, names, (before, after), scenes, pathlib.Path(args.out))
  print(args.out)


def heldout_names(c) -> list[str]:
  """Clips of the held-out pairs, each once, in the file's order."""
  lines = pathlib.Path(c["heldout"]["pairs"]).read_bytes().splitlines()
  return list(dict.fromkeys(json.loads(line)["video"] for line in lines))


def captions(c, names, adapter, path) -> dict[str, str]:
  """Greedy captions of clips, {name: text}."""
  settings = recipe.get_config()
  settings.videos, settings.root = ",".join(names), c["heldout"]["videos"]
  settings.output = str(path)
  settings.model.update(checkpoint=c["model"]["checkpoint"], adapter=adapter)
  settings.frames.update(min_frames=8, max_frames=8)
  settings.captions.max_new_tokens = c["heldout"]["max_new_tokens"]
  if faults := caption.run(settings, Console(quiet=True)):
    raise ValueError(faults[0])
  rows = map(json.loads, path.read_text("utf-8").splitlines())
  return {row["video"]: row["caption"] for row in rows}


def draw(c, names, told, scenes, out):
  """One row per clip: its frames, then both captions with their marks."""
  matplotlib.use("Agg")
  from matplotlib import pyplot

  figure = pyplot.figure(figsize=(11, 3.9 * len(names)), facecolor="white")
  grid = figure.add_gridspec(
    2 * len(names), FRAMES, height_ratios=(1, 1.3) * len(names)
  )
  for row, name in enumerate(names):
    pick = video.FrameRule(FRAMES, FRAMES, 0.5)
    clip = video.read(pathlib.Path(c["heldout"]["videos"]) / name, pick)
    for column, picture in enumerate(clip.frames[:FRAMES]):
      axes = figure.add_subplot(grid[2 * row, column])
      axes.imshow(picture, interpolation="nearest")
      axes.axis("off")
    for side, (title, texts) in enumerate(
      zip(("before", "after"), told, strict=True)
    ):
      half = slice(side * FRAMES // 2, (side + 1) * FRAMES // 2)
      axes = figure.add_subplot(grid[2 * row + 1, half])
      axes.axis("off")
      write(axes, title, texts[name], scenes[pathlib.PurePosixPath(name).stem])
  figure.savefig(out, dpi=110, bbox_inches="tight")


def write(axes, title, text, graph):
  """A caption, and below it what of it holds and what does not."""
  judged = truth.judge(text, graph)
  faults = f"{judged.wrong} wrong: {'; '.join(judged.faults[: judged.wrong])}"
  parts = (
    (title, "black", "bold"),
    (text, "black", "normal"),
    (f"{judged.right} right", RIGHT, "normal"),
    (faults, WRONG, "normal"),
  )
  line = 0
  for words, colour, weight in parts:
    lines = textwrap.wrap(words, COLUMNS)
    axes.annotate(
      "\n".join(lines),
      (0, 1),
      xytext=(0, -LINE * line),  # points below the top
      xycoords="axes fraction",
      textcoords="offset points",
      va="top",
      size=SIZE,
      linespacing=LINE / SIZE / 1.2,
      color=colour,
      weight=weight,
    )
    line += len(lines)


if __name__ == "__main__":
  main()
