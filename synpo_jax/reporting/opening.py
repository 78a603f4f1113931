"""What the report opens with: held-out clips, captions before and after."""

import base64
import html
import io
import itertools
import operator
import pathlib

import numpy as np
from PIL import Image

from synpo_jax.data import video
from synpo_jax.runtime import buckets, json_file
from synpo_jax.runtime.workdir import run_config
from synpo_jax.world import marks, scores
from synpo_jax.world.scene import Facts, read_scenes

CLIPS, FRAMES = 3, 8
STYLE = """
.clip{margin:1rem 0 1.6rem}.strip{overflow-x:auto}
.strip img{image-rendering:pixelated;max-width:none;min-width:40rem}
.clip p{color:var(--ink);max-width:none;margin:.4rem 0 0}
.clip .missing{color:var(--quiet)}
.right{color:#1a7f37}.wrong{color:#c62828;text-decoration:underline}
@media(prefers-color-scheme:dark){.right{color:#56d364}.wrong{color:#ff7b72}}
"""
NOTE = (
  "Greedy captions of the first held-out clips, before and after training. "
  "Right claims are green, wrong ones red and underlined."
)


def section(workdir: pathlib.Path) -> str:
  """HTML of a run's first held-out clips; empty where none were captioned.

  Raises OSError, or ValueError, for clips and scenes that are not there.
  """
  files = [workdir / f"{when}_captions.json" for when in ("before", "after")]
  if not all(file.exists() for file in files):
    return ""
  before, after = map(json_file.read, files)
  heldout = run_config(workdir)["heldout"]
  if not before or not heldout["scenes"]:
    return ""
  scenes = read_scenes(heldout["scenes"])
  shown = [
    _clip(
      buckets.at(heldout["videos"]) / name,
      {"before": before[name], "after": after[name]},
      scenes[scores.clip_id(name)].facts,
    )
    for name in list(before)[:CLIPS]
  ]
  return f"<h2>Held-out clips</h2><p>{NOTE}</p>{''.join(shown)}"


def _clip(path: pathlib.Path, told: dict[str, str], truth: Facts) -> str:
  """A strip of frames, and below it each caption with its marks."""
  clip = video.read(path, video.FrameRule(FRAMES, FRAMES, 1.0))
  strip = np.concatenate(list(clip.frames), axis=1)
  picture = f'<img src="{data_uri(strip)}" alt="{html.escape(path.name)}">'
  parts = [f'<div class="strip">{picture}</div>']
  for title, caption in told.items():
    words = in_colours(marks.coloured(caption, truth))
    left = "; ".join(marks.left_out(marks.of_caption(caption, truth)))
    parts.append(f"<p><b>{title}</b> {words}</p>")
    missing = html.escape(left or "nothing")
    parts.append(f'<p class="missing">missing: {missing}</p>')
  return f'<div class="clip">{"".join(parts)}</div>'


def in_colours(words: list[tuple[str, str | None]]) -> str:
  """HTML of a caption; neighbours with one verdict are marked as one."""
  parts = []
  for verdict, run in itertools.groupby(words, key=operator.itemgetter(1)):
    text = "".join(word for word, _ in run)
    said, space = html.escape(text.rstrip()), text[len(text.rstrip()) :]
    parts.append(f'<span class="{verdict}">{said}</span>' if verdict else said)
    parts.append(space)
  return "".join(parts)


def data_uri(strip: np.ndarray) -> str:
  """A picture uint8 [Y, X, 3] as a PNG inside of a page."""
  out = io.BytesIO()
  Image.fromarray(strip).save(out, "PNG")
  return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
