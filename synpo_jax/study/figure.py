"""The study in pictures: what was gained, what it cost, what breaks first."""

import pathlib

from synpo_jax.reporting import plots
from synpo_jax.study import pooling

MARKERS = "os^Dv<>P*X"
RULE = dict(color="#888888", lw=0.8)


def draw(rows: list[dict], results: pathlib.Path) -> list[pathlib.Path]:
  """PNGs beside results/claims.json: one per regime, and one of collapse."""
  paths = []
  for regime in dict.fromkeys(row["regime"] for row in rows):
    paths.append(results.with_name(f"{results.stem}_{regime}.png"))
    _regime(rows, regime, paths[-1])
    if too_far := pooling.select(rows, regime, "collapse"):
      paths.append(results.with_name(f"{results.stem}_collapse.png"))
      _collapse(too_far, paths[-1])
  return paths


def _panels(path, count, paint) -> None:
  from matplotlib.figure import Figure

  figure = Figure(figsize=(4.6 * count, 4.2), dpi=150, layout="constrained")
  panels = figure.subplots(1, count)
  paint(*panels)
  for axes in panels:
    axes.grid(color=plots.THEMES["light"]["grid"], lw=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
      axes.spines[side].set_visible(False)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path)


def _regime(rows, regime, path):
  """Gains beside controls; gain against language; drifts of both captions.

  Changed coefficients, as "synpo alpha=10", are left to the table.
  """
  base = pooling.select(rows, regime, "base")["base"]
  methods = {
    name: own
    for name, own in pooling.select(rows, regime, "cell").items()
    if " " not in name
  }
  controls = pooling.select(rows, regime, "control")
  gains = {
    name: pooling.f1_difference(own, base)
    for name, own in (methods | controls).items()
  }

  def paint(left, middle, right):
    _gains(left, gains, len(methods))
    _language(middle, methods, gains)
    _drifts(right, methods)

  _panels(path, 3, paint)


def _colour(index) -> str:
  colours = plots.COLOURS["light"]
  return colours[index % len(colours)]


def _gains(axes, gains, trained):
  """F1 gained, methods and then controls; whiskers are two errors."""
  axes.set_title(
    "Gain in F1 of claims, controls below", loc="left", fontsize=10
  )
  axes.set_xlabel("points of 100, ± 2 standard errors")
  axes.axvline(0, **RULE)
  names = list(gains)
  for index, name in enumerate(names):
    one = gains[name]
    axes.errorbar(
      100 * one.value,
      len(names) - index,
      xerr=200 * (one.error or 0),
      marker=MARKERS[index % len(MARKERS)],
      color=_colour(index) if index < trained else "#888888",
      ls="",
    )
  axes.set_yticks(range(len(names), 0, -1), names, fontsize=8)


def _language(axes, methods, gains):
  """Gain against the log-prob of true captions."""
  axes.set_title("Gain against language", loc="left", fontsize=10)
  axes.set_xlabel("change of log-prob of true captions, nats per token")
  axes.set_ylabel("gain in F1, points")
  axes.axhline(0, **RULE)
  axes.axvline(0, **RULE)
  for index, (name, rows) in enumerate(methods.items()):
    at = pooling.over_seeds(rows, "language_logp_drift")
    axes.errorbar(
      at.value,
      100 * gains[name].value,
      xerr=at.error,
      yerr=100 * (gains[name].error or 0),
      color=_colour(index),
      marker=MARKERS[index % len(MARKERS)],
      label=name,
      ls="",
    )
  axes.legend(frameon=False, fontsize=8, ncols=2)


def _drifts(axes, methods):
  """Change of the log-prob of chosen and rejected captions, held out."""
  axes.set_title("What training did to the pairs", loc="left", fontsize=10)
  axes.set_ylabel("change of log-prob, nats per token")
  axes.axhline(0, **RULE)
  for side, shift, colour in (("chosen", -0.2, 0), ("rejected", 0.2, 1)):
    for index, rows in enumerate(methods.values()):
      at = pooling.over_seeds(rows, f"{side}_logp_drift")
      axes.bar(
        index + shift,
        at.value,
        width=0.38,
        yerr=at.error,
        color=_colour(colour),
        hatch="" if side == "chosen" else "//",
        edgecolor="white",
        label=side if index == 0 else None,
      )
  axes.set_xticks(range(len(methods)), methods, fontsize=8, rotation=30)
  axes.legend(frameon=False, fontsize=8)


def _collapse(too_far, path):
  """What becomes of captions, likelihoods and gradients in a long run."""
  panels = (
    ("F1 of claims of validation clips", ("f1",), "linear"),
    (
      "Log-probs: chosen full, rejected dashed",
      ("chosen_logp", "rejected_logp"),
      "linear",
    ),
    (
      "Gradient norms: chosen full, rejected dashed",
      ("chosen_reward_grad_norm", "rejected_reward_grad_norm"),
      "log",
    ),
  )

  def paint(*axes):
    for each, (title, keys, scale) in zip(axes, panels, strict=True):
      each.set_title(title, loc="left", fontsize=10)
      each.set_xlabel("updates")
      for index, (method, (row,)) in enumerate(too_far.items()):
        for key, dash in zip(keys, ("-", "--"), strict=False):
          steps, values = plots.column(row["seen"], key)
          label = f"{method}, lr {row['lr']:g}" if dash == "-" else None
          each.plot(steps, values, dash, color=_colour(index), label=label)
      each.set_yscale(scale)
    axes[0].legend(frameon=False, fontsize=8)

  _panels(path, 3, paint)
