"""Entry: the paper's claims, tested on the synthetic world (`make claims`).

python -m synpo_jax.claims --config=configs/claims.py --workdir=runs/claims

In two regimes (configs/claims.py), from one captioner and one file of pairs
that it wrote itself, every method is trained at the learning rate that
validation clips prefer, with the same updates and seeds, and measured on clips
that it never saw, beside controls that are not trained at all. Writes
results/claims.json, figures beside it and, with --readme, tables and verdicts;
the curves, captions and adapters of every cell go into the workdir, for
`synpo_jax.report`. A killed study goes on where it stopped; with other
--config.seeds, --config.methods or --config.regimes the workdir is extended.
"""

import json
import pathlib

import jax
from absl import flags

from synpo_jax.runtime import buckets, ending, journal, one_writer
from synpo_jax.runtime.flags import CONFIG, WORKDIR, command
from synpo_jax.study import (
  cell,
  figure,
  looks,
  material,
  regime,
  table,
  timing,
  verdicts,
)

README = flags.DEFINE_string(
  "readme", None, "File that holds the tables between their marks."
)


def run(c, workdir: pathlib.Path) -> dict:
  """Makes what is missing; returns {"rows", "timing"}.

  rows: of every cell, regime by regime (`study.marking`); timing: of every
  method (`study.timing`).

  Raises ValueError, OSError: one line that says what is wrong.
  """
  for name in c.regimes:
    regime.own(c, name)
  with one_writer.held(workdir):
    captioner = material.open_captioner(c.run)
    ground = material.lay(c, workdir, captioner)
    lens, bench = looks.make_lens(c, captioner), make_bench(c)
    rows = []
    for name in c.regimes:
      rows += regime.run(c, name, workdir, captioner, ground, lens, bench)
    pairs = workdir / c.regimes[-1] / "pairs_train.jsonl"
    with journal.extend(workdir / "timing.jsonl") as (timed, append):
      if {*c.methods} - timed.keys():
        for row in timing.measure(c, captioner, ground, pairs, bench):
          if row["method"] not in timed:
            append({"id": row["method"]} | row)
      times = [timed[name] for name in c.methods]
    return {"rows": rows, "timing": times}


def make_bench(c):
  """Returns (captioner, method, data) -> cell.Bench, compiled once for each
  method, number of updates and shape of a batch."""
  made = {}

  def bench(captioner, method, data):
    shapes = jax.tree.map(lambda x: x.shape, data.batches[0])
    key = str((method, data.updates, shapes))
    if key not in made:
      made[key] = cell.make_bench(c, captioner, method, data)
    return made[key]

  return bench


def write(found: dict, path: pathlib.Path) -> None:
  """Writes results/claims.json: {"rows", "timing"}, F1 by clip rounded."""
  rows = []
  for row in found["rows"]:
    marks = row.get("by_clip", {})
    row = {key: value for key, value in row.items() if key != "by_clip"}
    if marks:
      clips = sorted(marks)  # controls are made in another order
      row["f1_by_clip"] = [round(marks[name]["f1"], 4) for name in clips]
    rows.append(row)
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
  times = ",\n".join(json.dumps(row) for row in found["timing"])
  text = f'{{"rows": [\n{lines}\n],\n"timing": [\n{times}\n]}}\n'
  journal.replace(path, text.encode())


@command("config", "workdir")
def main():
  """Runs the study, and writes its rows, figures, tables and verdicts."""
  c = CONFIG.value
  write(
    run(c, buckets.local(WORKDIR.value, "--workdir")), pathlib.Path(c.results)
  )
  results = pathlib.Path(c.results)
  found = json.loads(results.read_text("utf-8"))
  pictures = figure.draw(found["rows"], results)
  if README.value:
    table.into(pathlib.Path(README.value), found, pictures)
  for line in verdicts.lines(found):
    print(line)
  folder = buckets.local(WORKDIR.value, "--workdir")
  cells = sorted(folder.glob("*/cells/*seed*/metrics.jsonl"))
  ending.show(
    {"rows": results} | {path.stem: path for path in pictures},
    ending.command(
      "report",
      *(("workdir", path.parent) for path in cells[:8]),
      ("out", folder / "report"),
    ),
  )


if __name__ == "__main__":
  main()
