"""Rounds side by side as one HTML file: nothing fetched, no script."""

import html
import pathlib

from synpo_jax.reporting import opening, page, result, rounds
from synpo_jax.reporting.rounds import Round
from synpo_jax.runtime import buckets, journal
from synpo_jax.world import marks, scores
from synpo_jax.world.scene import read_scenes

FILE = "rounds.html"
PAIRS = {  # what is told of a round's pairs -> its title
  "judged": "videos judged",
  "pairs": "pairs of this round",
  "older_pairs": "pairs of earlier rounds, trained on too",
  "median_gap": "median gap of scores",
  "chosen_words": "words, chosen",
  "rejected_words": "words, rejected",
}
STYLE = """
.told{color:var(--ink)}.samples td{white-space:normal;text-align:left;
vertical-align:top;min-width:17rem}
"""
NOTE = (
  "Means over the held-out items, with their standard errors; the start is the "
  "captioner before the first round."
)
SAMPLES = "Captions of the first held-out items, round by round."
MARKED = " Right claims are green, wrong ones red and underlined."


def write(
  workdir: pathlib.Path, found: list[Round], samples: int
) -> pathlib.Path:
  """Writes rounds.html, in one step; returns its path.

  found: rounds from the start on. samples: items whose captions are shown.
  """
  parts = [
    f"<h1>{html.escape(str(workdir))}</h1>",
    f'<p class="told">{html.escape(rounds.sentence(found))}</p>',
    f"<h2>Scores</h2><p>{NOTE}</p>",
    _scores(found),
  ]
  if found[1:]:
    parts += ["<h2>Pairs</h2>", _pairs(found[1:])]
  note = SAMPLES + (MARKED if found[0].scenes else "")
  parts += [f"<h2>Samples</h2><p>{note}</p>", _samples(found, samples)]
  style = page.STYLE + opening.STYLE + STYLE
  text = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    f"<title>Rounds</title><style>{style}</style></head>"
    f"<body>{''.join(parts)}</body></html>\n"
  )
  path = pathlib.Path(workdir) / FILE
  journal.replace(path, text.encode("utf-8", "replace"))
  return path


def _scores(found) -> str:
  rows = [
    [title, *(result.cell(one.scores, key) for one in found)]
    for key, title in rounds.titles(found).items()
  ]
  return _table(["", *map(rounds.name, found)], rows)


def _pairs(found) -> str:
  rows = [
    [title, *(_number(one.pairs[key]) for one in found)]
    for key, title in PAIRS.items()
  ]
  return _table(["", *map(rounds.name, found)], rows)


def _number(value) -> str:
  return "-" if value is None else f"{value:.4g}"


def _samples(found, most: int) -> str:
  """A row per item, a column per round."""
  shared = [
    id_
    for id_ in found[0].captions
    if all(id_ in one.captions for one in found)
  ]
  scenes = _scenes(found[0].scenes)
  rows = []
  for id_ in shared[:most]:
    captions = (_caption(one.captions[id_], id_, scenes) for one in found)
    rows.append(f"<tr><td>{html.escape(id_)}</td>{''.join(captions)}</tr>")
  heads = ["", *map(rounds.name, found)]
  return (
    f'<div class="wide"><table class="samples">{_row("th", heads)}'
    f"{''.join(rows)}</table></div>"
  )


def _scenes(path: str) -> dict:
  """Scenes by clip; none where their file is gone."""
  return read_scenes(path) if path and buckets.at(path).is_file() else {}


def _caption(text, id_, scenes) -> str:
  scene = scenes.get(scores.clip_id(id_))
  if scene is None:
    return f"<td>{html.escape(text)}</td>"
  return f"<td>{opening.in_colours(marks.coloured(text, scene.facts))}</td>"


def _table(heads, rows) -> str:
  body = "".join(_row("td", row) for row in rows)
  return f'<div class="wide"><table>{_row("th", heads)}{body}</table></div>'


def _row(tag: str, cells: list[str]) -> str:
  inner = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
  return f"<tr>{inner}</tr>"
