"""The figure and the table of benchmarks/scaling.py."""

import pathlib

from synpo_jax.reporting.plots import COLOURS

AXES = {
  "pairs": "pairs in a batch",
  "frames": "frames of a video",
  "caption": "tokens of a caption",
  "devices": "virtual devices, 8 pairs",
}
GIB = 2**30


def draw(found: dict, path: pathlib.Path) -> None:
  """Six panels: four axes, cost per pair by rows, waiting share by rows."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(11, 6.5), layout="constrained")
  axes = figure.subplots(2, 3).flat
  for panel, (name, title) in zip(axes, AXES.items(), strict=False):
    _sweep(panel, found[name], name, title)
  _rows(axes[4], found["rows"], "seconds_per_pair", "seconds per pair")
  _rows(axes[5], found["rows"], "waiting_share", "share of time waiting")
  figure.suptitle(f"A step of the tiny captioner; {found['machine']}", size=9)
  figure.savefig(path, dpi=110)


def _sweep(panel, points, name, title):
  time, memory = COLOURS["light"][:2]
  at = [point[name] for point in points]
  panel.plot(at, [p["seconds"] for p in points], "o-", color=time)
  panel.set_xlabel(title)
  panel.set_ylabel("seconds per step (full line)", color=time)
  panel.set_ylim(bottom=0)
  panel.set_xticks(at)
  other = panel.twinx()
  needed = [p["device_bytes"] / GIB for p in points]
  other.plot(at, needed, "s--", color=memory)
  other.set_ylabel("GiB per device (dashed)", color=memory)
  other.set_ylim(bottom=0)


def _rows(panel, rows, key, title):
  at = [row["rows"] for row in rows]
  styles = (("first_epoch", "o-"), ("last_epoch", "s--"))
  for (when, style), colour in zip(styles, COLOURS["light"], strict=False):
    values = [row[when][key] for row in rows]
    panel.plot(at, values, style, color=colour, label=when.replace("_", " "))
  panel.set_xscale("log")
  panel.set_xlabel("rows of pairs")
  panel.set_ylabel(title)
  panel.set_ylim(bottom=0)
  panel.legend()


def lines(found: dict) -> list[list[str]]:
  """The numbers as rows of a table; the first is the heading."""
  out = [
    ["along", "at", "seconds per step", "seconds per pair", "MiB a device"]
  ]
  for name, title in AXES.items():
    for point in found[name]:
      each = point["seconds"] / point["pairs"]
      memory = f"{point['device_bytes'] / 2**20:.0f}"
      cells = [f"{point['seconds']:.3f}", f"{each:.4f}", memory]
      out.append([title, str(point[name]), *cells])
  return out


def row_lines(found: dict) -> list[list[str]]:
  """What data sets of different sizes cost, in the same form."""
  heading = ["rows of pairs", "ready after, s", "s per pair, first epoch"]
  heading += ["last epoch", "waiting, first", "last", "pipeline, pairs/s"]
  out = [heading]
  for row in found["rows"]:
    first, last = row["first_epoch"], row["last_epoch"]
    cells = [f"{row['prepare_seconds']:.1f}"]
    cells += [f"{w['seconds_per_pair']:.4f}" for w in (first, last)]
    cells += [f"{100 * w['waiting_share']:.1f} %" for w in (first, last)]
    out.append([str(row["rows"]), *cells, f"{row['pipeline_pairs_per_s']:.0f}"])
  return out
