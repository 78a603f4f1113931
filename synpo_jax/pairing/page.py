"""pairs.html: pairs to look at, in one file that fetches nothing."""

import base64
import difflib
import html
import io
import re
import string
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from synpo_jax.data import video
from synpo_jax.data.limits import Limits
from synpo_jax.pairing import words
from synpo_jax.pairing.criteria import RANGES, WEIGHTS
from synpo_jax.runtime import buckets, journal

TEMPLATE = Path(__file__).with_name("page.html")
HIGHEST = sum(WEIGHTS[name] * high for name, (_, high) in RANGES.items())
FRAMES, WIDTH, QUALITY = 6, 192, 70  # of a strip; width in pixels
BINS = 27  # of half a point
LEFT, RIGHT, TOP, FLOOR, CHART_WIDTH = 4, 4, 14, 104, 360


def write(
  path: Path,
  rows: list[dict],
  summary: str,
  root: Path,
  *,
  limit: int,
  limits: Limits | None = None,
  worth: str = "",
) -> None:
  """Writes the page of these pairs, the first that exist `limit` at most.

  Args:
    rows: of pairs.jsonl; histograms count all of them.
    summary: a line below the title.
    root: of relative video paths.
    limit: more pairs than this are thinned out evenly, and the page says so.
    limits: what reading a video may cost.
    worth: HTML below the charts (worth.section).
  """
  shown = thinned(rows, limit)
  if len(shown) < len(rows):
    summary += f" The page shows {len(shown)} of them, evenly spread."
  articles = [
    _article(row, strip(buckets.join(root, row["video"]), limits))
    for row in shown
  ]
  chosen = [row["chosen_score"] for row in rows]
  rejected = [row["rejected_score"] for row in rows]
  gaps = [a - b for a, b in zip(chosen, rejected, strict=True)]
  sides = ("good", "chosen"), ("bad", "rejected")
  lengths = [(kind, [words.count(row[x]) for row in rows]) for kind, x in sides]
  text = string.Template(TEMPLATE.read_text("utf-8")).substitute(
    title="Preference pairs",
    summary=html.escape(summary),
    scores=_chart([("good", chosen), ("bad", rejected)]),
    gaps=_chart([("mark", gaps)], line=True),
    lengths=_chart(lengths, highest=max([1, *lengths[0][1], *lengths[1][1]])),
    worth=worth,
    shown=len(shown),
    articles="\n".join(articles),
  )
  journal.replace(path, text.encode("utf-8", "replace"))


def thinned(rows: list, limit: int) -> list:
  """At most `limit` of the rows, evenly spread."""
  if len(rows) <= limit:
    return rows
  return [rows[i] for i in video.spread(0, len(rows) - 1, limit).tolist()]


def strip(path: Path, limits: Limits | None = None) -> list[bytes]:
  """Frames spread over a video as small JPEGs; [] when it cannot be read."""
  try:
    clip = video.read(path, _spread, _small, limits)
  except (ValueError, OSError):
    return []
  return [_jpeg(frame) for frame in clip.frames]


def _spread(_, total: int) -> Int[np.ndarray, "n"]:
  return video.spread(0, total - 1, min(total, FRAMES))


def differences(
  chosen: str, rejected: str
) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
  """Both texts as (piece, is it only in this one), words compared caselessly.

  The pieces of each text join to that text; spaces are never marked.
  """
  ours, theirs = (_words(text) for text in (chosen, rejected))
  plain = ([w.strip().casefold() for w in words] for words in (ours, theirs))
  matcher = difflib.SequenceMatcher(None, *plain, autojunk=False)
  left, right = [], []
  for kind, a, b, c, d in matcher.get_opcodes():
    left += _pieces(ours[a:b], kind != "equal")
    right += _pieces(theirs[c:d], kind != "equal")
  return left, right


def _words(text: str) -> list[str]:
  """Words and marks, each with the space behind it; together the text."""
  return re.findall(r"^\s+|(?:\w+|[^\w\s])\s*", text)


def _pieces(words, own) -> list[tuple[str, bool]]:
  text = "".join(words)
  core = text.rstrip()
  parts = [(core, own), (text[len(core) :], False)]
  return [(part, mark) for part, mark in parts if part]


def _small(frame: UInt8[np.ndarray, "y x 3"]) -> UInt8[np.ndarray, "Y X 3"]:
  rows, columns = frame.shape[:2]
  height = max(1, min(2 * WIDTH, round(WIDTH * rows / columns)))
  return np.asarray(Image.fromarray(frame).resize((WIDTH, height)))


def _jpeg(frame) -> bytes:
  out = io.BytesIO()
  Image.fromarray(frame).save(out, "JPEG", quality=QUALITY)
  return out.getvalue()


def _article(row: dict, frames: list[bytes]) -> str:
  gap = row["chosen_score"] - row["rejected_score"]
  kept, lost = differences(row["chosen"], row["rejected"])
  pictures = "".join(
    '<img alt="" src="data:image/jpeg;base64,'
    f'{base64.b64encode(data).decode()}">'
    for data in frames
  )
  strip_ = f'<div class="strip">{pictures}</div>'
  return (
    f'<article class="sheet" data-gap="{gap:.6f}"><header>'
    f"<h2>{html.escape(row['video'])}</h2>"
    f'<span class="total">gap {gap:.1f}</span></header>'
    f"{strip_ if frames else '<p class=quiet>The video cannot be read.</p>'}"
    f'<p class="quiet">{html.escape(row["question"])}</p>'
    f'<div class="texts">{_text("Chosen", "ins", kept, row, "chosen")}'
    f"{_text('Rejected', 'del', lost, row, 'rejected')}</div></article>"
  )


def _text(title, tag, pieces, row, which) -> str:
  text = "".join(
    f"<{tag}>{html.escape(piece)}</{tag}>" if own else html.escape(piece)
    for piece, own in pieces
  )
  scores, index = _scores(row), row["provenance"]["candidates"][which]
  parts = ", ".join(f"{name} {scores[name][index]:g}" for name in WEIGHTS)
  spoilt = row["provenance"].get("corruption") if which == "rejected" else None
  by = (
    f"of frames after {spoilt['kind']}" if spoilt else f"candidate {index + 1}"
  )
  return (
    f'<section><h2>{title} <span class="total">'
    f"{row[f'{which}_score']:.1f}</span></h2>"
    f'<p class="quiet">{parts}; {by}</p><p>{text}</p>'
    "</section>"
  )


def _scores(row) -> dict:
  return row["provenance"]["scores"]


def _chart(
  series: list[tuple[str, list]],
  line: bool = False,
  highest: float | int = HIGHEST,
) -> str:
  """A histogram in SVG, from 0: BINS bars, side by side for each series.

  line: draws the page's filter.
  """
  edges = np.linspace(0.0, highest, BINS + 1)
  counts = [np.histogram(values, edges)[0] for _, values in series]
  most = max(int(count.max()) for count in counts)
  scale = (CHART_WIDTH - LEFT - RIGHT) / highest
  wide = 0.9 * scale * highest / BINS / len(series)
  bars = "".join(
    _bar(name, LEFT + scale * edges[i] + place * wide, n, most, wide)
    for place, ((name, _), count) in enumerate(zip(series, counts, strict=True))
    for i, n in enumerate(count.tolist())
    if n
  )
  ticks = "".join(
    f'<text x="{LEFT + scale * x:.1f}" y="{FLOOR + 13}" '
    f'text-anchor="{"middle" if x else "start"}">{x}</text>'
    for x in (0, *(int(highest * third / 3.375) for third in (1, 2, 3)))
  )
  marker = (
    f'<line id="limit" class="limit" data-left="{LEFT}" '
    f'data-scale="{scale:.4f}" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" '
    f'y2="{FLOOR}"/>'
  )
  return (
    f'<svg viewBox="0 0 {CHART_WIDTH} {FLOOR + 18}" role="img" '
    f'aria-label="Histogram"><text x="{LEFT}" y="10">tallest: {most}</text>'
    f'{bars}<line class="rule" x1="{LEFT}" x2="{CHART_WIDTH - RIGHT}" '
    f'y1="{FLOOR}" y2="{FLOOR}"/>{ticks}{marker if line else ""}</svg>'
  )


def _bar(name, x, count, most, width) -> str:
  height = (FLOOR - TOP) * count / most
  return (
    f'<rect class="{name}" x="{x:.1f}" '
    f'y="{FLOOR - height:.1f}" width="{width:.1f}" height="{height:.1f}">'
    f"<title>{count}</title></rect>"
  )
