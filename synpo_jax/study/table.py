"""From the study's rows to the table in the README."""

import math
import pathlib
import re

import numpy as np

START, END = "<!-- claims: begin -->", "<!-- claims: end -->"
# Column -> (heading, factor, digits).
COLUMNS = {
  "qa_accuracy": ("QA accuracy %", 100, 1),
  "hallucination": ("hallucination %", 100, 1),
  "ranking_accuracy": ("ranking accuracy %", 100, 1),
  "chosen_logp_drift": ("chosen log-prob drift", 1, 3),
  "rejected_logp_drift": ("rejected log-prob drift", 1, 3),
  "language_logp": ("held-out log-prob", 1, 3),
  "distinct_n": ("distinct-2", 1, 3),
  "seconds_per_step": ("s per step", 1, 3),
  "peak_bytes": ("peak MB", 1e-6, 0),
}


def choose_rates(rows: list[dict]) -> dict[str, float]:
  """Method -> the learning rate with the best mean validation QA accuracy.

  The smaller rate wins a tie.
  """
  chosen = {}
  for method in dict.fromkeys(row["method"] for row in rows):
    own = [row for row in rows if row["method"] == method]
    rates = sorted({row["lr"] for row in own if row["lr"] is not None})
    if rates:
      chosen[method] = max(
        rates,
        key=lambda lr, own=own: (
          np.mean([r["validation_qa_accuracy"] for r in own if r["lr"] == lr]),
          -lr,
        ),
      )
  return chosen


def mean_and_error(values: list[float]) -> tuple[float, float | None]:
  """Mean and its standard error; no error for a single value."""
  mean = float(np.mean(values))
  if len(values) < 2:
    return mean, None
  return mean, float(np.std(values, ddof=1) / math.sqrt(len(values)))


def markdown(rows: list[dict]) -> str:
  """The table: one line per method at its chosen learning rate."""
  rates = choose_rates(rows)
  heads = ["method", "lr", *(head for head, _, _ in COLUMNS.values())]
  lines = [
    "| " + " | ".join(heads) + " |",
    "|---|" + "---:|" * (len(heads) - 1),
  ]
  for method in dict.fromkeys(row["method"] for row in rows):
    lr = rates[method] if method in rates else None
    own = [r for r in rows if r["method"] == method and r["lr"] == lr]
    cells = [method, "-" if lr is None else f"{lr:g}"]
    cells += [_cell(own, name) for name in COLUMNS]
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)


def _cell(rows, name) -> str:
  _, factor, digits = COLUMNS[name]
  values = [row[name] for row in rows if row[name] is not None]
  if not values:
    return "-"
  mean, error = mean_and_error([factor * value for value in values])
  words = f"{mean:.{digits}f}"
  return words if error is None else f"{words} ± {error:.{digits}f}"


def into(path: pathlib.Path, rows: list[dict]) -> None:
  """Puts the table between its two marks in a file.

  Raises ValueError where the marks are missing.
  """
  text = path.read_text("utf-8")
  pattern = re.compile(f"{START}.*?{END}", re.DOTALL)
  if not pattern.search(text):
    raise ValueError(f"{path}: no lines {START} and {END} to put the table in")
  block = f"{START}\n\n{markdown(rows)}\n\n{END}"
  path.write_text(pattern.sub(lambda _: block, text), "utf-8")
