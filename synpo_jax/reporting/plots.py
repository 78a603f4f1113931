"""The figures of a run: one panel each, readable on a phone, in two themes.

Colours are Okabe and Ito's, told apart with any colour vision; chosen is a
full line and rejected a dashed one, so that no figure needs its colours.
Matplotlib is imported where something is drawn, at the end of a run.
"""

import io
import math
from typing import NamedTuple

import numpy as np

from synpo_jax.reporting.panels import Panel

COLOURS = {
  "light": (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#7A4A21", "#444444"),
  ),
  "dark": (
    *("#56B4E9", "#E69F00", "#2BC79A", "#CC79A7", "#F0E442", "#B4BCC8"),
    *("#D98B5F", "#8C9EFF"),
  ),
}
DASHES = ((None, None), (4, 2), (1.2, 1.8))  # one per line of a panel
THEMES = {
  "light": dict(ink="#1f2328", quiet="#4d5661", grid="#e3e6ea", paper="white"),
  "dark": dict(ink="#e6e9ee", quiet="#9aa4b1", grid="#333a44", paper="#14181f"),
}
SMOOTH = 30  # windows that a curve is cut into for its running mean


class Run(NamedTuple):
  """A run by name, and its rows as they were logged."""

  name: str
  method: str
  metrics: list[dict]
  evaluations: list[dict]
  importance: list[dict]


def column(rows: list[dict], key: str) -> tuple[np.ndarray, np.ndarray]:
  """Steps and finite values of one column; rows without it are left out."""
  points = [(r["step"], r[key]) for r in rows if r.get(key) is not None]
  array = np.array(points, np.float64).reshape(-1, 2)
  return tuple(array[np.isfinite(array[:, 1])].T)


def running_mean(values: np.ndarray) -> np.ndarray:
  """Mean over a window of 1/30 of the curve, narrower at its ends."""
  half = len(values) // SMOOTH // 2
  if half == 0:
    return values
  total = np.concatenate([[0.0], np.cumsum(values)])
  at = np.arange(len(values))
  low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
  return (total[high] - total[low]) / (high - low)


def recorded(panel: Panel, runs: list[Run]) -> bool:
  """Whether any run has something to draw in this panel."""
  rows = [getattr(run, panel.source) for run in runs]
  return any(len(column(r, key)[0]) for r in rows for key in panel.lines)


def draw(panel: Panel, runs: list[Run], theme: str) -> bytes:
  """The panel as PNG bytes; several runs are told apart by colour."""
  figure, axes = blank(panel.title, "update", panel.ylabel, theme)
  several = len(runs) > 1
  for index, run in enumerate(runs):
    for part, key in enumerate(panel.lines):
      steps, values = column(getattr(run, panel.source), key)
      if len(steps):
        colour = _colour(theme, index if several else part)
        _line(axes, steps, values, colour, DASHES[part % len(DASHES)], None)
  _decorate(axes, panel, theme)
  return finish(figure, _legend(panel, runs, theme), theme)


def _colour(theme, index):
  return COLOURS[theme][index % len(COLOURS[theme])]


def _legend(panel, runs, theme):
  """Colours by run, then dashes by drawn line; both at once for one run."""
  drawn = [
    (part, label)
    for part, (key, label) in enumerate(panel.lines.items())
    if any(len(column(getattr(run, panel.source), key)[0]) for run in runs)
  ]
  several = len(runs) > 1
  entries = [
    (_handle(_colour(theme, index)), run.name)
    for index, run in enumerate(runs)
    if several and recorded(panel, [run])
  ]
  if len(drawn) > 1:
    quiet = THEMES[theme]["quiet"]
    entries += [
      (_handle(quiet if several else _colour(theme, part), part), label)
      for part, label in drawn
    ]
  return entries


def _handle(colour, part=0):
  from matplotlib.lines import Line2D

  line = Line2D([], [], color=colour, lw=1.8)
  if DASHES[part % len(DASHES)][0]:
    line.set_dashes(DASHES[part % len(DASHES)])
  return line


def _line(axes, steps, values, colour, dashes, name):
  smooth = running_mean(values)
  style = dict(color=colour, dashes=dashes) if dashes[0] else dict(color=colour)
  if smooth is not values:
    axes.plot(steps, values, color=colour, lw=0.6, alpha=0.25)
  marker = "o" if len(steps) < 25 else None
  axes.plot(steps, smooth, lw=1.8, label=name, marker=marker, ms=3, **style)


def blank(title: str, xlabel: str, ylabel: str, theme: str):
  """An empty figure in a theme, and its axes."""
  from matplotlib.figure import Figure

  look = THEMES[theme]
  figure = Figure(figsize=(5.2, 3.2), dpi=160, layout="constrained")
  figure.set_facecolor(look["paper"])
  axes = figure.add_subplot()
  axes.set_facecolor(look["paper"])
  axes.set_title(title, loc="left", fontsize=11, color=look["ink"], pad=10)
  axes.set_xlabel(xlabel, color=look["quiet"])
  axes.set_ylabel(ylabel, color=look["quiet"])
  axes.tick_params(which="both", colors=look["quiet"], labelsize=9)
  axes.grid(color=look["grid"], lw=0.7)
  axes.set_axisbelow(True)
  for side, spine in axes.spines.items():
    spine.set_visible(side in ("left", "bottom"))
    spine.set_color(look["grid"])
  return figure, axes


def finish(figure, entries: list[tuple[object, str]], theme: str) -> bytes:
  """Adds the legend below the axes, which keep their size; PNG bytes."""
  if entries:
    handles, labels = zip(*entries, strict=True)
    columns = min(len(labels), max(1, 84 // (max(map(len, labels)) + 9)))
    rows = math.ceil(len(labels) / columns)
    figure.set_figheight(figure.get_figheight() + 0.22 * rows)
    legend = figure.legend(
      handles,
      labels,
      loc="outside lower left",
      ncols=columns,
      frameon=False,
      fontsize=9,
      handlelength=2.4,
    )
    for text in legend.get_texts():
      text.set_color(THEMES[theme]["ink"])
  png = io.BytesIO()
  figure.savefig(png, format="png", facecolor=figure.get_facecolor())
  return png.getvalue()


def draw_importance(runs: list[Run], theme: str) -> bytes:
  """Mean log-prob per bin of token importance, before and after training."""
  title = "Log-prob against token importance"
  figure, axes = blank(
    title,
    "importance: drop in log-prob without the video",
    "mean log-prob per token",
    theme,
  )
  shown = [run for run in runs if run.importance]
  before = binned(shown[0].importance, "logp_before")
  quiet = THEMES[theme]["quiet"]
  _errors(axes, before, color=quiet, dashes=DASHES[1], label="before")
  for index, run in enumerate(shown):
    name = "after" if len(shown) == 1 else f"{run.name}: after"
    after = binned(run.importance, "logp_after")
    _errors(axes, after, color=_colour(theme, index), label=name)
  entries = list(zip(*axes.get_legend_handles_labels(), strict=True))
  return finish(figure, entries, theme)


def binned(rows: list[dict], key: str, *, bins: int = 12) -> np.ndarray:
  """Rows (mean importance, mean log-prob, standard error) per bin [bins, 3].

  Bins hold equally many tokens, sorted by importance.
  """
  importance = np.array([row["importance"] for row in rows], np.float64)
  logp = np.array([row[key] for row in rows], np.float64)
  parts = np.array_split(np.argsort(importance, kind="stable"), bins)
  return np.array(
    [
      (
        importance[part].mean(),
        logp[part].mean(),
        logp[part].std(ddof=min(1, len(part) - 1)) / np.sqrt(len(part)),
      )
      for part in parts
      if len(part)
    ]
  )


def _errors(axes, points, *, dashes=(None, None), **style):
  style = style | (dict(dashes=dashes) if dashes[0] else {})
  axes.errorbar(
    *points.T[:2], yerr=points.T[2], lw=1.6, ms=3, marker="o", **style
  )


def _decorate(axes, panel, theme):
  """Scale and line of comparison that a panel asks for."""
  from matplotlib import ticker

  if panel.log_y:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(
      ticker.LogFormatterSciNotation(
        labelOnlyBase=False, minor_thresholds=(9, 9)
      )
    )
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
  if panel.level is not None:
    axes.axhline(panel.level, color=THEMES[theme]["quiet"], lw=0.8, zorder=1)
