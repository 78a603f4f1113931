"""What a run shows when it is done."""

import json
import pathlib
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from synpo_jax.reporting import gain, plots, report
from synpo_jax.runtime import hosts
from synpo_jax.training import metrics

SHOWN = {  # score -> its title in the table
  "accuracy": "ranking accuracy",
  "chosen_logp": "log-prob per token, chosen",
  "rejected_logp": "log-prob per token, rejected",
  "margin": "margin of geometric means",
  "f1": "F1 of claims",
  "precision": "precision of claims",
  "recall": "recall of claims",
  "hallucination": "wrong share of claims made",
  "omissions": "true claims left out",
  "qa_accuracy": "questions answered right",
  "words": "words",
  "fluency": "fluency (0-5)",
}
BRIEF = ("f1", "precision", "words")  # of the controls


def show(
  before: Mapping,
  after: Mapping,
  workdir: pathlib.Path,
  told: gain.Captions | None = None,
) -> None:
  """Prints the held-out scores and keeps the last.

  told: the captions that the scores are of; with them come the controls, what
  the figures mean, and three clips.
  """
  if not hosts.is_first():
    return
  (workdir / "after.json").write_text(json.dumps(after, indent=2) + "\n")
  more = {} if told is None else gain.summaries(told)
  if told is not None:
    controls = {name: more[name] for name in told.controls}
    text = json.dumps(controls, indent=2) + "\n"
    (workdir / "controls.json").write_text(text)
    text = json.dumps(told.after, indent=2, ensure_ascii=False) + "\n"
    (workdir / "after_captions.json").write_text(text, "utf-8")
  console = Console()
  change = {} if told is None else {"change": more["change"]}
  console.print(table(before, after, change))
  if told is not None:
    if told.controls:
      console.print(nudged({name: more[name] for name in told.controls}))
    console.print(gain.sentence(told))
    console.print(*gain.clips(told), sep="\n\n")


def curves(workdir: pathlib.Path, *, table: bool) -> dict:
  """Draws a run's curves on a page; {what: its place}.

  table: also print where they begin and end. Raises ValueError or OSError for
  a metrics.jsonl that is not as training leaves it.
  """
  page = report.write([str(workdir)], workdir / "report")
  if table:
    Console().print(course(metrics.read_rows(workdir / "metrics.jsonl")))
  return {"curves": page}


def course(rows: list[dict]) -> Table:
  """Means over the first and the last tenth of a run's updates."""
  tenth = -(-len(rows) // 10)
  columns = {
    f"updates {part[0]['step']}-{part[-1]['step']}": {
      name: plots.column(part, name)[1].mean()
      for name in ("loss", *SHOWN)
      if len(plots.column(part, name)[1])
    }
    for part in (rows[:tenth], rows[-tenth:])
  }
  return compared("training pairs", columns, {"loss": "loss"} | SHOWN)


def table(
  before: Mapping, after: Mapping, more: Mapping[str, Mapping] | None = None
) -> Table:
  """Scores in rows; before, after, and what more columns there are."""
  columns = {"before": before, "after": after, **(more or {})}
  return compared("held-out clips", columns, SHOWN)


def compared(what: str, columns: Mapping[str, Mapping], titles) -> Table:
  """Columns of scores side by side; a row per score that the first has."""
  shown = Table(what, *columns)
  for name, title in titles.items():
    if name in next(iter(columns.values())):
      cells = (cell(values, name) for values in columns.values())
      shown.add_row(title, *cells)
  return shown


def nudged(controls: Mapping[str, Mapping]) -> Table:
  """The controls, one a row: what the start gives when it is nudged."""
  shown = Table("before training, nudged", *(SHOWN[name] for name in BRIEF))
  for name, values in controls.items():
    shown.add_row(name, *(cell(values, key) for key in BRIEF))
  return shown


def cell(values: Mapping, name: str) -> str:
  """A mean, with its standard error where there is one."""
  if name not in values:
    return ""
  error = values.get(f"{name}_se")
  room = "" if error is None else f" ± {error:.3f}"
  return f"{values[name]:.3f}{room}"
