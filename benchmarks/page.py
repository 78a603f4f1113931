"""Writes the tables of the step, its floor and the scaling into README.md.

python benchmarks/page.py         reads benchmarks/results/*.json
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import floor, sections, workload

RESULTS = pathlib.Path(__file__).with_name("results")
MIB = 2**20
# Of synpo_shared's time and memory; None where memory has no goal.
GOALS = {
  "synpo_two_sequence": (0.70, None),
  "dpo": (0.50, None),
  "trl_dpo": (0.50, 0.50),
  "trl_simpo": (0.50, 0.50),
  "torch_synpo": (0.50, 0.50),
  "torch_dpo": (0.50, 0.50),
}


def step_section(rows: list[dict], speed: dict) -> str:
  """Machine, versions, a table for each shape, and the floor."""
  parts = [machine_line(rows), versions_line(rows)]
  for shape in dict.fromkeys(row["shape"] for row in rows):
    mine = [row for row in rows if row["shape"] == shape]
    parts += [f"**prefix:response {shape}**", shape_table(mine)]
  parts += ["**The floor**", floor_text(speed), floor_table(rows, speed)]
  return "\n\n".join(parts)


def machine_line(rows) -> str:
  """Where and how it was measured."""
  loads = [row["load"] for row in rows]
  steps = sorted({row["timed"] for row in rows})
  return (
    f"{rows[0]['machine']}; {' or '.join(map(str, steps))} timed steps of each "
    f"behind one that is not; load average {min(loads):.1f} to "
    f"{max(loads):.1f}; malloc: {rows[0]['malloc']}."
  )


def versions_line(rows) -> str:
  """Every program's versions, once."""
  return "; ".join(dict.fromkeys(row["versions"] for row in rows)) + "."


def shape_table(rows) -> str:
  """The implementations at one shape, with ours as a share of each."""
  by_name = {row["impl"]: row for row in rows}
  ours = by_name.get("synpo_shared")
  heading = ["implementation", "seconds", "spread", "CPU s", "peak MiB"]
  heading += ["synpo_shared's time", "its memory", "goal"]
  table = [heading]
  for row in rows:
    cells = [f"{row['seconds']:.2f}", f"{row['spread']:.2f}"]
    cells.append(f"{row['cpu_seconds']:.2f}")
    cells.append(f"{row['peak_bytes'] / MIB:.0f}")
    table.append([f"`{row['impl']}`", *cells, *shares(row, ours)])
  return sections.table(table)


def shares(row, ours) -> list[str]:
  """Our time and memory over a row's, and whether the goals are met."""
  if ours is None or row is ours:
    return ["", "", ""]
  time = ours["seconds"] / row["seconds"]
  memory = ours["peak_bytes"] / row["peak_bytes"]
  cells = [f"{time:.2f}x", f"{memory:.2f}x"]
  if row["impl"] not in GOALS:
    return [*cells, ""]
  wanted, wanted_memory = GOALS[row["impl"]]
  met = time <= wanted and (wanted_memory is None or memory <= wanted_memory)
  text = f"time ≤ {wanted:.2f}x"
  if wanted_memory is not None:
    text += f", memory ≤ {wanted_memory:.2f}x"
  return [*cells, f"{text}: {'met' if met else '**missed**'}"]


def floor_text(speed) -> str:
  """The yardstick, in words."""
  return (
    f"The machine's best at a float32 product (1568 x 576 by 576 x 1536, JAX) "
    f"is {speed['gflops']:.0f} GFLOP/s, at a copy {speed['gbytes']:.0f} GB/s. "
    f"A step must read and write {speed['least_bytes'] / 1e9:.1f} GB of "
    f"weights, gradients and moments: "
    f"{speed['least_bytes'] / 1e9 / speed['gbytes']:.2f} s."
  )


def floor_table(rows, speed) -> str:
  """FLOPs of every step, the seconds they take at least, and ours."""
  heading = ["step", "base", "adapter", "attention", "head", "reference"]
  heading += ["TFLOP", "floor s", "took s", "floor / took"]
  table = [heading]
  for row in rows:
    if row["impl"].startswith("trl_"):
      continue
    parts = needed(row)
    total = sum(parts.values())
    least = total / speed["gflops"] / 1e9
    names = ("base", "adapter", "attention", "head", "reference")
    cells = [f"{parts.get(name, 0) / 1e12:.2f}" for name in names]
    cells += [f"{total / 1e12:.2f}", f"{least:.2f}", f"{row['seconds']:.2f}"]
    cells.append(f"{100 * least / row['seconds']:.0f} %")
    table.append([f"`{row['impl']}` {row['shape']}", *cells])
  return sections.table(table)


def needed(row) -> dict:
  """What `floor.needed` says of a row's step."""
  return floor.needed(
    "smollm2_135m",
    128,
    workload.shape(row["shape"]),
    shared=row["impl"].endswith("_shared"),
    reference="dpo" in row["impl"],
  )


def scaling_section(found: dict) -> str:
  """Both tables of the scaling, and the figure."""
  from benchmarks import scaling_figure

  return "\n\n".join(
    [
      f"{found['machine']}; load average {found['load']:.1f}.",
      "![time and memory along each axis](results/scaling.png)",
      sections.table(scaling_figure.lines(found)),
      sections.table(scaling_figure.row_lines(found)),
    ]
  )


def main():
  """Writes the sections whose results are there."""
  step, scaling = RESULTS / "step.json", RESULTS / "scaling.json"
  if step.exists():
    rows = json.loads(step.read_text())
    speed = json.loads((RESULTS / "floor.json").read_text())
    sections.put(sections.README, "step", step_section(rows, speed))
  if scaling.exists():
    text = scaling_section(json.loads(scaling.read_text()))
    sections.put(sections.README, "scaling", text)
  print(f"{sections.README} is up to date")


if __name__ == "__main__":
  main()
