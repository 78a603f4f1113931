"""Entry: the paper's claims, tested on the synthetic world (`make claims`).

python -m synpo_jax.claims --config=configs/claims.py --workdir=runs/claims

From one warm-started captioner and one file of pairs sampled from it, every
method is trained over the same grid of learning rates and seeds, and measured
on clips it never saw. Writes results/claims.json, a figure beside it and,
with --readme, its table; the curves of every cell go into the workdir, for
`synpo_jax.report`. A killed study goes on where it stopped; with other
--config.seeds or --config.methods the workdir is extended.
"""

import itertools
import json
import pathlib
import sys

from absl import app, flags, logging

from synpo_jax import journal
from synpo_jax import progress as progress_bar
from synpo_jax.entry_flags import CONFIG, WORKDIR
from synpo_jax.evaluation import recipe
from synpo_jax.study import cell, curves, figure, material, table

README = flags.DEFINE_string(
  "readme", None, "File that holds the table between its marks."
)


def methods(c) -> list[cell.Method]:
  """The methods and ablations that a config asks for."""
  found = []
  for name in c.methods:
    if name not in c.losses:
      known = ", ".join(sorted(c.losses))
      raise ValueError(f"methods: {name!r} is none of {known}")
    found.append(cell.Method(name, name, c.losses[name].to_dict()))
  for key, values in c.ablations.items():
    for value in values:
      coefficients = c.losses.synpo.to_dict() | {key: value}
      name = f"synpo {key}={value:g}"
      found.append(cell.Method(name, "synpo", coefficients))
  return found


def run(c, workdir: pathlib.Path) -> list[dict]:
  """Runs the cells that are missing; returns all rows of the config.

  Raises ValueError, OSError: one line that says what is wrong.
  """
  wanted = methods(c)
  captioner = material.open_captioner(c.run)
  stuff = material.prepare(c, workdir, captioner)
  mark = recipe.digest({"config": c.to_dict(), "packages": recipe.versions()})
  cells = [("base", None, None)] + [
    (method.name, lr, seed)
    for method in wanted
    for lr, seed in itertools.product(c.lrs, c.seeds)
  ]
  with journal.extend(workdir / "cells.jsonl") as (rows, append):
    missing = [key for key in cells if _id(*key) not in rows]
    if missing:
      meter = cell.make_meter(c, captioner, stuff)
      done = len(cells) - len(missing)
      with progress_bar.bar("cells", len(cells), done=done) as advance:
        made = _cells(
          c, captioner, stuff, meter, wanted, missing, rows, workdir / "cells"
        )
        for row in made:
          append(row | {"recipe": mark})
          advance(note=f"{row['method']} qa {row['qa_accuracy']:.3f}")
    return [rows[_id(*key)] for key in cells]


def _id(method, lr, seed):
  return f"{method} lr={lr} seed={seed}"


def _cells(c, captioner, stuff, meter, wanted, missing, rows, folder):
  """Yields a row per missing cell, `base` first, then method by method."""
  adapter = cell.fresh_adapter(captioner, 0)
  frozen = {"params": captioner.params}
  if ("base", None, None) in missing:
    yield _row(meter, "base", None, None, adapter, frozen, None)
  base = rows[_id("base", None, None)]
  for method in wanted:
    own = [key for key in missing if key[0] == method.name]
    bench, data = None, {}
    for _, lr, seed in own:
      if seed not in data:
        data[seed] = _train_data(c, captioner, stuff, method, seed)
      start = cell.fresh_adapter(captioner, seed)
      if bench is None:
        bench = cell.make_bench(c, captioner, method, data[seed], start)
      every = 0 if method.loss == "sft" else c.reward_norms
      done = cell.train_cell(
        captioner, bench, data[seed], start, lr, norms_every=every
      )
      row = _row(meter, method.name, lr, seed, done.adapter, frozen, base)
      row |= {
        "seconds_per_step": done.seconds_per_step,
        "peak_bytes": bench.peak_bytes,
        "updates": len(done.rows),
        "skipped": int(done.rows[-1]["skipped"]),
        "coefficients": method.coefficients,
      }
      curves.write(folder / curves.name(row), done.rows, base, row)
      yield row


def _train_data(c, captioner, stuff, method, seed):
  captions = 1 if method.loss == "sft" else 2
  return material.read_data(
    c,
    captioner,
    stuff.pairs["train"],
    stuff.features,
    captions=captions,
    epochs=c.run.epochs,
    seed=seed,
  )


def _row(meter, method, lr, seed, trained, frozen, base) -> dict:
  """Test scores, their drift from the base, and validation accuracy."""
  scores = cell.measure(meter, trained, frozen, "test")
  chosen_on = cell.measure(meter, trained, frozen, "validation")
  drifts = {
    f"{side}_logp_drift": scores[f"{side}_logp"]
    - (scores if base is None else base)[f"{side}_logp"]
    for side in ("chosen", "rejected")
  }
  return {
    "id": _id(method, lr, seed),
    "method": method,
    "seed": seed,
    "lr": lr,
    **scores,
    **drifts,
    "validation_qa_accuracy": chosen_on["qa_accuracy"],
    "seconds_per_step": None,
    "peak_bytes": None,
  }


def write(rows: list[dict], path: pathlib.Path) -> None:
  """Writes results/claims.json: a list of rows, in the grid's order."""
  path.parent.mkdir(parents=True, exist_ok=True)
  text = json.dumps(rows, indent=1, ensure_ascii=False)
  path.write_text(text + "\n", "utf-8")


def main(argv):
  """Reads the flags, runs, and says in one line what stops it."""
  if len(argv) > 1:
    sys.exit(f"error: unexpected arguments {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)  # libraries tell too much otherwise
  c = CONFIG.value
  try:
    rows = run(c, pathlib.Path(WORKDIR.value))
    results = pathlib.Path(c.results)
    write(rows, results)
    figure.draw(rows, results.with_suffix(".png"))
    if README.value:
      table.into(pathlib.Path(README.value), rows)
  except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")
  print(table.markdown(rows))
  print(f"rows: {c.results}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(main)
