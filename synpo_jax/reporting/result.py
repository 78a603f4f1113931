"""What a run shows when it is done."""

import json
import pathlib

from rich.console import Console
from rich.table import Table

from synpo_jax.reporting import report
from synpo_jax.runtime import hosts

SHOWN = {  # metric -> its title in the table
  "accuracy": "ranking accuracy",
  "chosen_logp": "log-prob per token, chosen",
  "rejected_logp": "log-prob per token, rejected",
  "margin": "margin of geometric means",
  "factuality": "factuality of greedy captions (0-5)",
  "fluency": "fluency of greedy captions (0-5)",
  "qa_accuracy": "questions answered right",
}


def show(before: dict, after: dict, workdir: pathlib.Path) -> None:
  """Prints the held-out scores, keeps the last, draws the curves on a page."""
  if not hosts.is_first():
    return
  (workdir / "after.json").write_text(json.dumps(after, indent=2) + "\n")
  Console().print(table(before, after))
  print(f"curves: {report.write([str(workdir)], workdir / 'report')}")


def table(before: dict, after: dict) -> Table:
  """Before and after, side by side."""
  shown = Table("held-out clips", "before", "after")
  for name, title in SHOWN.items():
    if name in before:
      values = (f"{scores[name]:.3f}" for scores in (before, after))
      shown.add_row(title, *values)
  return shown
