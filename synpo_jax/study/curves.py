"""A cell's curves as a training run leaves them, so that reports draw them."""

import json
import pathlib

from synpo_jax.runtime import journal
from synpo_jax.study.grid import BASE, Cell


def name(cell: Cell) -> str:
  """A folder name for a cell."""
  if cell == BASE:
    return cell.method
  words = f"{cell.method} lr={cell.lr:g} seed={cell.seed}"
  return words.replace(" ", "_")


def write(
  folder: pathlib.Path, loss: str, steps: list[dict], base, row
) -> None:
  """Writes metrics.jsonl, eval.jsonl and config.json as `train` would.

  base, row: the study's rows before and after training.
  """
  journal.rewrite(folder / "metrics.jsonl", steps)
  ends = [(0, base), (steps[-1]["step"], row)]
  journal.rewrite(
    folder / "eval.jsonl", [_language(step, scores) for step, scores in ends]
  )
  section = {"name": loss, "coefficients": row["coefficients"]}
  text = json.dumps({"loss": section}, indent=2)
  (folder / "config.json").write_text(text + "\n", "utf-8")


def _language(step, scores) -> dict:
  return {
    "step": step,
    "reference_logp": scores["language_logp"],
    "repetition": scores["repetition"],
    "distinct_1": scores["distinct_1"],
    "distinct_2": scores["distinct_n"],
  }
