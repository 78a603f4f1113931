"""A cell's curves as a training run leaves them, so that reports draw them."""

import json
import pathlib

from synpo_jax.runtime import journal
from synpo_jax.study.cell import Trained
from synpo_jax.study.grid import Cell


def name(cell: Cell) -> str:
  """A folder name for a cell."""
  words = [cell.method]
  if cell.kind not in ("cell", "base"):
    words.insert(0, cell.kind)
  if cell.lr is not None:
    words.append(f"lr={cell.lr:g} seed={cell.seed}")
  return " ".join(words).replace(" ", "_")


def write(
  folder: pathlib.Path, loss: str, trained: Trained, base: dict, row: dict
) -> None:
  """Writes metrics.jsonl, eval.jsonl and config.json as `train` would.

  base, row: the study's rows before and after training.
  """
  seen = {one["step"] + 1: one for one in trained.seen}
  norms = ("chosen_reward_grad_norm", "rejected_reward_grad_norm")
  steps = []
  for step in trained.rows:
    looked = seen.get(step["step"], {})
    steps.append(step | {k: looked[k] for k in norms if k in looked})
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
