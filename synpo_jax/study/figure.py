"""The study in one picture: what was gained, and what it cost."""

import pathlib

from matplotlib.figure import Figure

from synpo_jax.reporting import plots
from synpo_jax.study import table

MARKERS = "os^Dv<>P*X"


def draw(rows: list[dict], path: pathlib.Path) -> None:
  """Two panels: QA accuracy against language, and log-prob drifts.

  Changed coefficients, as "synpo alpha=10", are left to the table.
  """
  points = table.reported(rows)
  points = {m: own for m, own in points.items() if " " not in m}
  figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
  left, right = figure.subplots(1, 2)
  _trade(left, points)
  _drifts(right, points)
  for axes in (left, right):
    axes.grid(color=plots.THEMES["light"]["grid"], lw=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
      axes.spines[side].set_visible(False)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path)


def _mean(rows, key):
  return table.mean_and_error([row[key] for row in rows])


def _colour(index) -> str:
  colours = plots.COLOURS["light"]
  return colours[index % len(colours)]


def _trade(axes, points):
  """QA accuracy against held-out log-prob; bars are standard errors."""
  axes.set_title("Right answers against language", loc="left", fontsize=11)
  axes.set_xlabel("log-prob per token of held-out reference captions")
  axes.set_ylabel("QA accuracy of greedy captions, %")
  for index, (method, rows) in enumerate(points.items()):
    x, x_error = _mean(rows, "language_logp")
    y, y_error = _mean(rows, "qa_accuracy")
    axes.errorbar(
      x,
      100 * y,
      xerr=x_error,
      yerr=None if y_error is None else 100 * y_error,
      color="#444444" if method == "base" else _colour(index - 1),
      marker=MARKERS[index % len(MARKERS)],
      label=method,
      ls="",
    )
  axes.legend(frameon=False, fontsize=8, ncols=2)


def _drifts(axes, points):
  """Change of the log-prob of chosen and rejected captions, held out."""
  methods = [method for method in points if method != "base"]
  axes.set_title("What training did to the pairs", loc="left", fontsize=11)
  axes.set_ylabel("change of log-prob per token")
  axes.axhline(0, color="#888888", lw=0.8)
  for side, shift, colour in (("chosen", -0.2, 0), ("rejected", 0.2, 1)):
    for index, method in enumerate(methods):
      mean, error = _mean(points[method], f"{side}_logp_drift")
      axes.bar(
        index + shift,
        mean,
        width=0.38,
        yerr=error,
        color=_colour(colour),
        hatch="" if side == "chosen" else "//",
        edgecolor="white",
        label=side if index == 0 else None,
      )
  axes.set_xticks(range(len(methods)), methods, fontsize=9)
  axes.legend(frameon=False, fontsize=8)
