"""Entry: the paper's claims, tested on the synthetic world (`make claims`).

python -m synpo_jax.claims --config=configs/claims.py --workdir=runs/claims

From one warm-started captioner and one file of pairs sampled from it, every
method is trained at the learning rate that validation clips prefer, with the
same budget and seeds, and measured on clips it never saw. Writes
results/claims.json, a figure beside it and, with --readme, its table; the
curves and captions of every cell go into the workdir, for `synpo_jax.report`.
A killed study goes on where it stopped; with other --config.seeds or
--config.methods the workdir is extended.
"""

import functools
import json
import pathlib

import numpy as np
from absl import flags

from synpo_jax import losses
from synpo_jax.runtime import ending, journal, one_writer
from synpo_jax.runtime import progress as progress_bar
from synpo_jax.runtime.flags import CONFIG, WORKDIR, command
from synpo_jax.study import cell, curves, figure, grid, material, table

README = flags.DEFINE_string(
  "readme", None, "File that holds the table between its marks."
)


def run(c, workdir: pathlib.Path) -> list[dict]:
  """Runs the cells that are missing; returns the rows that the config names.

  A row is a cell's, with `reported`: whether the table counts it, which are
  the cells of c.seeds at their method's learning rate.

  Raises ValueError, OSError: one line that says what is wrong.
  """
  with one_writer.held(workdir):
    return _study(c, workdir)


def _study(c, workdir) -> list[dict]:
  wanted = [grid.parse(name, c.losses.to_dict()) for name in c.methods]
  tried = dict(lrs=c.lrs, seeds=c.seeds, tuning_seed=c.tuning_seed)
  captioner = material.open_captioner(c.run)
  shared = material.prepare(c, workdir, captioner)
  mark = {"recipe": material.mark(c)}
  with journal.extend(workdir / "cells.jsonl") as (rows, append):
    make = _maker(c, captioner, shared, rows, workdir / "cells")
    total, done = grid.count(wanted, rows, **tried)
    reported = {}
    with progress_bar.bar("cells", total, done=done) as advance:
      for one, is_reported in grid.cells(wanted, rows, **tried):
        reported[one.id] = is_reported
        if one.id not in rows:
          append(make(one) | mark)
          advance(note=f"{one.id}: QA {rows[one.id]['qa_accuracy']:.3f}")
    return [rows[name] | {"reported": is_} for name, is_ in reported.items()]


def _maker(c, captioner, shared, rows, folder):
  """Returns cell -> row. What cells share is made once, when first needed."""
  frozen, known = {"params": captioner.params}, c.losses.to_dict()
  norms = cell.make_norms(c, captioner)
  meter = functools.cache(lambda: cell.make_meter(c, captioner, shared))
  start = functools.partial(cell.fresh_adapter, captioner)

  @functools.cache
  def data(captions, seed):
    path, features = shared.pairs["train"], shared.features
    return material.read_data(
      c,
      captioner,
      path,
      features,
      captions=captions,
      epochs=c.run.epochs,
      seed=seed,
    )

  @functools.lru_cache(maxsize=1)  # cells of a method follow each other
  def bench(name):
    method = grid.parse(name, known)
    batches = data(losses.captions(method.loss), c.tuning_seed)
    return cell.make_bench(c, captioner, method, batches, start(0), norms)

  def make(one):
    if one == grid.BASE:
      return _score(meter(), one, start(0), frozen, None, folder)
    method = grid.parse(one.method, known)
    done = cell.train_cell(
      captioner,
      bench(one.method),
      data(losses.captions(method.loss), one.seed),
      start(one.seed),
      one.lr,
      norms_every=c.reward_norms,
    )
    base = rows[grid.BASE.id]
    row = _score(meter(), one, done.adapter, frozen, base, folder)
    row |= {
      "seconds_per_step": done.seconds_per_step,
      "peak_bytes": bench(one.method).peak_bytes,
      "updates": len(done.rows),
      "skipped": int(done.rows[-1]["skipped"]),
      "coefficients": method.coefficients,
    }
    curves.write(folder / curves.name(one), method.loss, done.rows, base, row)
    return row

  return make


def _score(meter, one, trained, frozen, base, folder) -> dict:
  """Test scores, what changed since the base, and validation accuracy.

  `qa_gain` is a mean of differences clip by clip and `qa_gain_error` its
  standard error: the clips are the same before and after.
  """
  clips, scores = cell.measure(meter, trained, frozen, "test")
  _, tried = cell.measure(meter, trained, frozen, "validation")
  journal.rewrite(folder / curves.name(one) / "clips.jsonl", clips)
  before = scores if base is None else base
  drifts = {
    f"{side}_logp_drift": scores[f"{side}_logp"] - before[f"{side}_logp"]
    for side in ("chosen", "rejected")
  }
  were = journal.read(folder / curves.name(grid.BASE) / "clips.jsonl")
  gains = [row["qa_accuracy"] - were[row["id"]]["qa_accuracy"] for row in clips]
  return {
    "id": one.id,
    "method": one.method,
    "seed": one.seed,
    "lr": one.lr,
    **scores,
    **drifts,
    "qa_gain": float(np.mean(gains)),
    "qa_gain_error": float(np.std(gains, ddof=1) / np.sqrt(len(gains))),
    "validation_qa_accuracy": tried["qa_accuracy"],
    "seconds_per_step": None,
    "peak_bytes": None,
  }


def write(rows: list[dict], path: pathlib.Path) -> None:
  """Writes results/claims.json: a list of rows, in the grid's order."""
  path.parent.mkdir(parents=True, exist_ok=True)
  text = json.dumps(rows, indent=1, ensure_ascii=False)
  path.write_text(text + "\n", "utf-8")


@command("config", "workdir")
def main():
  """Runs the study, and writes its rows, figure and table."""
  c = CONFIG.value
  rows = run(c, pathlib.Path(WORKDIR.value))
  results = pathlib.Path(c.results)
  write(rows, results)
  figure.draw(rows, results.with_suffix(".png"))
  if README.value:
    table.into(pathlib.Path(README.value), rows, results.with_suffix(".png"))
  print(table.markdown(rows))
  folders = sorted(pathlib.Path(WORKDIR.value, "cells").glob("*/metrics.jsonl"))
  cells = [("workdir", path.parent) for path in folders]
  page = ("out", pathlib.Path(WORKDIR.value, "report"))
  ending.show(
    {"rows": c.results, "figure": results.with_suffix(".png")},
    ending.command("report", *cells, page),
  )


if __name__ == "__main__":
  main()
