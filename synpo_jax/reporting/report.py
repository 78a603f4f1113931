"""The curves of runs as PNGs and one page to read."""

import json
import pathlib

from synpo_jax.reporting import opening, panels, plots
from synpo_jax.reporting import page as report_page
from synpo_jax.runtime import workdir
from synpo_jax.training import metrics

IMPORTANCE = {"importance", "logp_before", "logp_after"}


def read_run(place: str | pathlib.Path, name: str) -> plots.Run:
  """The rows of a workdir; those that it has lost are counted in a line.

  Raises FileNotFoundError without metrics.jsonl, ValueError naming a file
  that is not as training leaves it.
  """
  folder = pathlib.Path(place)
  path = folder / "metrics.jsonl"
  if not path.exists():
    raise FileNotFoundError(
      f"{path} not found: --workdir names the folder that training wrote"
    )
  rows = _rows(path, {"step"})
  if not rows:
    raise ValueError(f"{path} holds no row yet; wait for the first update")
  last = max(rows[-1]["step"], workdir.newest_step(folder))
  metrics.say_missing(path, rows, range(1, last + 1))
  return plots.Run(
    name,
    method_of(folder),
    rows,
    _rows(folder / "eval.jsonl", {"step"}),
    _rows(folder / "importance.jsonl", IMPORTANCE),
  )


def _rows(path: pathlib.Path, keys: set[str]) -> list[dict]:
  """Rows of a file, every one with these keys; [] without the file."""
  rows = metrics.read_rows(path)
  for number, row in enumerate(rows, 1):
    if not isinstance(row, dict) or not keys <= row.keys():
      names = ", ".join(sorted(keys))
      raise ValueError(f"{path} row {number}: not an object with {names}")
  return rows


def method_of(folder: pathlib.Path) -> str:
  """The loss that a workdir's config names; empty without a config."""
  path = folder / "config.json"
  try:
    return json.loads(path.read_text())["loss"]["name"] if path.exists() else ""
  except (ValueError, KeyError, TypeError):
    raise ValueError(f"{path}: not the config of a training run") from None


def short_names(workdirs: list[str]) -> list[str]:
  """The fewest trailing folders that tell the workdirs apart."""
  parts = [pathlib.Path(w).resolve().parts for w in workdirs]
  if len(set(parts)) < len(parts):
    raise ValueError("--workdir names the same folder twice")
  depth = 1
  while len({p[-depth:] for p in parts}) < len(parts):
    depth += 1
  return ["/".join(p[-depth:]) for p in parts]


def figures(runs: list[plots.Run]) -> dict[str, list[report_page.Figure]]:
  """Every figure by section, in both themes; without data, no images."""
  drawn = {}
  for section, own in panels.PANELS.items():
    drawn[section] = [_figure(panel, runs) for panel in own]
  title, images = "Log-prob against token importance", {}
  if any(run.importance for run in runs):
    images = {t: plots.draw_importance(runs, t) for t in plots.THEMES}
  why = "python -m synpo_jax.importance computes it"
  drawn["Importance"] = [report_page.Figure("importance", title, images, why)]
  return drawn


def _figure(panel, runs):
  images = {}
  if plots.recorded(panel, runs):
    images = {t: plots.draw(panel, runs, t) for t in plots.THEMES}
  return report_page.Figure(panel.name, panel.title, images, panel.missing)


def write(workdirs: list[str], out: str | pathlib.Path) -> pathlib.Path:
  """Writes the figures and the page; returns the page's path."""
  names = short_names(workdirs)
  runs = [read_run(w, n) for w, n in zip(workdirs, names, strict=True)]
  out = pathlib.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  drawn = figures(runs)
  for section in drawn.values():
    for figure in section:
      if figure.images:
        (out / f"{figure.name}.png").write_bytes(figure.images["light"])
  page = out / "index.html"
  first = opening.section(pathlib.Path(workdirs[0])) if len(runs) == 1 else ""
  page.write_text(report_page.page(runs, drawn, first), encoding="utf-8")
  return page
