"""Draws the README's picture: held-out clips, captions before and after.

python docs/before_after.py --workdir=runs/demo

Reads what `make demo` left: captions of its first held-out clips, before and
after, whose claims it marks against the scene graphs.
"""

import argparse
import json
import pathlib
import textwrap

import matplotlib

from synpo_jax.data import video
from synpo_jax.runtime.workdir import run_config
from synpo_jax.world import marks, scene, scores

FRAMES, COLUMNS = 6, 55  # frames in a strip, characters in a line
SIZE, LINE, LETTER = 9, 13, 5.42  # of letters, of a line, of a letter's width
COLOURS = {marks.RIGHT: "#1a7f37", marks.WRONG: "#c62828", None: "#333333"}


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workdir", default="runs/demo", help="of the run")
  parser.add_argument("--out", default="docs/before_after.png")
  parser.add_argument("--clips", type=int, default=2)
  args = parser.parse_args()
  heldout = run_config(args.workdir)["heldout"]
  told = [
    json.loads(pathlib.Path(args.workdir, f"{when}_captions.json").read_text())
    for when in ("before", "after")
  ]
  names = list(told[0])[: args.clips]
  scenes = scene.read_scenes(heldout["scenes"])
  draw(pathlib.Path(heldout["videos"]), names, told, scenes, args.out)
  print(args.out)


def draw(videos, names, told, scenes, out):
  """One row per clip: its frames, then both captions with their marks."""
  matplotlib.use("Agg")
  from matplotlib import pyplot

  figure = pyplot.figure(figsize=(11, 3.7 * len(names)), facecolor="white")
  grid = figure.add_gridspec(
    2 * len(names), FRAMES, height_ratios=(1, 1.1) * len(names)
  )
  for row, name in enumerate(names):
    pick = video.FrameRule(FRAMES, FRAMES, 0.5)
    clip = video.read(videos / name, pick)
    for column, picture in enumerate(clip.frames[:FRAMES]):
      axes = figure.add_subplot(grid[2 * row, column])
      axes.imshow(picture, interpolation="nearest")
      axes.axis("off")
    truth = scenes[scores.clip_id(name)].facts
    titled = zip(("before", "after"), told, strict=True)
    for side, (title, texts) in enumerate(titled):
      half = slice(side * FRAMES // 2, (side + 1) * FRAMES // 2)
      axes = figure.add_subplot(grid[2 * row + 1, half])
      axes.axis("off")
      write(axes, title, texts[name], truth)
  figure.savefig(out, dpi=110, bbox_inches="tight")


def write(axes, title, caption, truth):
  """A caption, right claims green and wrong ones red, and what is missing."""
  line = 0
  put(axes, title, line, 0, "black", "bold")
  column, line = 0, 1
  for words, verdict in marks.coloured(caption, truth):
    for word in words.split():
      if column + len(word) > COLUMNS:
        column, line = 0, line + 1
      weight = "normal" if verdict is None else "bold"
      put(axes, word, line, column, COLOURS[verdict], weight)
      column += len(word) + 1
  left = marks.left_out(marks.of_caption(caption, truth))
  missing = f"missing: {'; '.join(left) or 'nothing'}"
  for more, text in enumerate(textwrap.wrap(missing, COLUMNS), line + 1):
    put(axes, text, more, 0, "#777777", "normal")


def put(axes, text, line, column, colour, weight):
  """Words at a line and column of the axes, in letters of one width."""
  axes.annotate(
    text,
    (0, 1),
    xytext=(column * LETTER, -LINE * line),  # points from the top left
    xycoords="axes fraction",
    textcoords="offset points",
    va="top",
    size=SIZE,
    family="monospace",
    color=colour,
    weight=weight,
  )


if __name__ == "__main__":
  main()
