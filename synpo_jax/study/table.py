"""From the study's rows to the table in results/README.md."""

import os
import pathlib
import re

import numpy as np

from synpo_jax.world.scores import mean_and_error

START, END = "<!-- claims: begin -->", "<!-- claims: end -->"
ALT = "What each method gained in right answers, and what it cost in language"
# Column -> (heading, factor, digits).
COLUMNS = {
  "qa_accuracy": ("QA accuracy %", 100, 1),
  "qa_gain": ("gain over base", 100, 1),
  "f1": ("F1 of claims %", 100, 1),
  "precision": ("precision %", 100, 1),
  "recall": ("recall %", 100, 1),
  "hallucination": ("hallucination %", 100, 1),
  "omissions": ("omissions %", 100, 1),
  "words": ("words", 1, 1),
  "ranking_accuracy": ("ranking accuracy %", 100, 1),
  "chosen_logp_drift": ("chosen log-prob drift", 1, 3),
  "rejected_logp_drift": ("rejected log-prob drift", 1, 3),
  "language_logp": ("held-out log-prob", 1, 3),
  "distinct_n": ("distinct-2", 1, 3),
  "seconds_per_step": ("s per step", 1, 3),
  "peak_bytes": ("peak MB", 1e-6, 0),
}


def reported(rows: list[dict]) -> dict[str, list[dict]]:
  """Method -> its rows that count, in the rows' order."""
  found = {}
  for row in rows:
    if row["reported"]:
      found.setdefault(row["method"], []).append(row)
  return found


def markdown(rows: list[dict]) -> str:
  """The table: one line per method at its chosen learning rate."""
  heads = ["method", "lr", *(head for head, _, _ in COLUMNS.values())]
  lines = [
    "| " + " | ".join(heads) + " |",
    "|---|" + "---:|" * (len(heads) - 1),
  ]
  for method, own in reported(rows).items():
    lr = own[0]["lr"]
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
  if name == "qa_gain":  # over clips; at least what a mean over seeds has
    error = factor * float(np.mean([row["qa_gain_error"] for row in rows]))
  words = f"{mean:.{digits}f}"
  return words if error is None else f"{words} ± {error:.{digits}f}"


def into(path: pathlib.Path, rows: list[dict], picture: pathlib.Path) -> None:
  """Puts table and figure between their two marks in a file.

  Raises ValueError where the marks are missing.
  """
  text = path.read_text("utf-8")
  pattern = re.compile(f"{START}.*?{END}", re.DOTALL)
  if not pattern.search(text):
    raise ValueError(f"{path}: no lines {START} and {END} to put the table in")
  target = os.path.relpath(picture, path.parent)
  parts = START, markdown(rows), _note(rows), f"![{ALT}]({target})", END
  block = "\n\n".join(parts)
  path.write_text(pattern.sub(lambda _: block, text), "utf-8")


def _note(rows) -> str:
  seeds = sorted({row["seed"] for row in rows if row["seed"] is not None})
  return (
    f"Mean ± standard error over seeds {', '.join(map(str, seeds))}; of the "
    "gain in QA accuracy, over clips, each compared with itself. A fall of the "
    "hallucination rate is good, one of the held-out log-prob bad."
  )
