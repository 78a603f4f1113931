"""A preference step on one GPU in bfloat16, ours beside PyTorch's.

python -m benchmarks.gpu --minutes=25        or: make gpu-report

Llama-3.2-1B's and Vicuna-7B's sizes, random weights, LoRA of rank 128 in
float32. Every implementation is tried with each policy of recomputation, with
1, 2, 4 ... pairs until its memory is full or pairs take longer, and may take as
much of the card as the others. The fastest per pair is shown. Utilisation is of
the FLOPs that one pair needs with its prompt read once and nothing recomputed
(benchmarks/floor.py), at the card's dense bfloat16 peak. Every row goes to
benchmarks/results/gpu.json when it is measured, so that a run that was ended
goes on, and into the table of benchmarks/README.md.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

from benchmarks import floor, peers, sections, step, workload
from benchmarks.processes import OutOfMemory, ensure_weights, measure

IMPLS = ("synpo_shared", "dpo_shared", "torch_synpo", "torch_dpo")
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # NVIDIA, dense bf16
MOST_PAIRS = 32
GAIN = 1.03  # less than this for twice the pairs: more of them are not tried
RESULTS = pathlib.Path(__file__).with_name("results") / "gpu.json"
FULL, FAILED, NO_TIME = "memory is full", "failed", "no time was left"


def settings(impl: str) -> list[tuple[dict, bool]]:
  """(our overrides, PyTorch's checkpointing) to try, the fastest first."""
  if impl.startswith("torch_"):
    return [({}, False), ({}, True)]
  policies = ("none", "save_dots", "full")
  return [({"model.remat": policy}, False) for policy in policies]


def tasks(args, size, shape, impl):
  """Of each setting of an implementation, its tasks by growing pairs."""
  for overrides, checkpointing in settings(impl):
    counts = [2**n for n in range(args.most_pairs.bit_length())]
    yield [
      workload.Task(
        impl,
        shape,
        size,
        pairs=pairs,
        folder=str(workload.weights_folder(size, args.rank, args.dtype)),
        dtype=args.dtype,
        device=args.device,
        checkpointing=checkpointing,
        dropout=args.dropout,
        overrides=overrides,
      )
      for pairs in counts
    ]


def grown(args, growing: list[workload.Task], python, done: list[dict]):
  """Yields the new rows of a setting, until more pairs do not help.

  done: rows of an earlier run, which are not measured again.
  """
  known, before = {row["task"]: row for row in done}, 0.0
  for task in growing:
    found = known.get(task.text())
    if found is None:
      found = tried(args, task, python)
      yield found
    if found.get("ended") or found["pairs_per_s"] < GAIN * before:
      return
    before = found["pairs_per_s"]


def tried(args, task: workload.Task, python) -> dict:
  """A row: what was measured, or `ended` and why."""
  about = dict(task=task.text(), card=args.card, size=task.size)
  about |= dict(impl=task.impl, shape=str(task.shape), pairs=task.pairs)
  about |= dict(policy=policy(task))
  if time.monotonic() > args.deadline:
    return about | dict(ended=NO_TIME)
  try:
    child = measure(task, python, threads=args.threads, repeats=args.repeats)
  except OutOfMemory:
    return about | dict(ended=FULL)
  except RuntimeError as error:
    print(error, file=sys.stderr)
    return about | dict(ended=FAILED, why=str(error).splitlines()[-1])
  return about | step.row([child]) | speed(child, args)


def policy(task: workload.Task) -> str:
  """What a setting recomputes, in a word or two."""
  if task.impl.startswith("torch_"):
    return "full" if task.checkpointing else "none"
  return task.overrides["model.remat"]


def speed(child, args) -> dict:
  """Pairs and tokens a second, and the part of the card's peak."""
  task = child.task
  parts = floor.needed(
    task.size,
    args.rank,
    task.shape,
    shared=True,
    reference="dpo" in task.impl,
  )
  a_second = task.pairs / step.row([child])["seconds"]
  return dict(
    pairs_per_s=a_second,
    tokens_per_s=a_second * floor.tokens(task.shape, shared=True),
    utilisation=a_second * sum(parts.values()) / args.peak,
    device_bytes=child.rows[-1].get("device_bytes"),
  )


def card() -> str:
  """The name of the first GPU; exits where none is found."""
  query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
  try:
    done = subprocess.run(query, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].strip()
  except (OSError, subprocess.CalledProcessError, IndexError):
    sys.exit("error: nvidia-smi finds no GPU; --device=cpu --card=NAME tries")


def flags(argv):
  """The command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  add = parser.add_argument
  add("--sizes", default="llama_1b,vicuna_7b")
  add("--shapes", default="1796:256", help="PREFIX:RESPONSE,…")
  add("--impls", default=",".join(IMPLS))
  add("--json", default=str(RESULTS), help="file for the rows")
  add("--readme", default=str(sections.README), help="file for the table")
  add("--minutes", type=float, default=25, help="nothing is begun after them")
  add("--card", help="its name, where nvidia-smi does not tell")
  add("--peak", type=float, help="its dense bfloat16 FLOP/s, if it is new")
  add("--rank", type=int, default=128)
  add("--dtype", default="bfloat16")
  add("--device", default="cuda", help="cpu, to try the script out")
  add("--most_pairs", type=int, default=MOST_PAIRS)
  add("--dropout", type=float, default=workload.RECIPE["dropout"])
  add("--repeats", type=int, default=5)
  add("--threads", type=int, default=16)
  add("--peers-python", help="interpreter with PyTorch and PEFT")
  args = parser.parse_args(argv)
  args.card = args.card or card()
  known = [peak for name, peak in PEAK.items() if name in args.card]
  if not args.peak and not known:
    sys.exit(f"error: {args.card} is not among {', '.join(PEAK)}: give --peak")
  args.peak = args.peak or known[0]
  args.deadline = time.monotonic() + 60 * args.minutes
  return args


def main(argv=None):
  """Measures what is not measured yet, and writes rows and table."""
  args = flags(argv)
  try:
    theirs = peers.python(args.peers_python)
  except FileNotFoundError as error:
    sys.exit(f"error: {error}")
  path = pathlib.Path(args.json)
  rows = json.loads(path.read_text()) if path.exists() else []
  rows = [row for row in rows if row.get("ended") not in (NO_TIME, FAILED)]
  for size in args.sizes.split(","):
    ensure_weights(size, args.rank, args.dtype)
    for shape in map(workload.shape, args.shapes.split(",")):
      for impl in args.impls.split(","):
        python = theirs if impl.startswith("torch_") else sys.executable
        for growing in tasks(args, size, shape, impl):
          for row in grown(args, growing, python, rows):
            rows.append(row)
            path.write_text(json.dumps(rows, indent=1) + "\n")
            print(line(row), flush=True)
  sections.put(pathlib.Path(args.readme), "gpu", text(rows))
  failed = [row for row in rows if row.get("ended") == FAILED]
  if failed:
    sys.exit(f"error: {len(failed)} failed, as {line(failed[0])}")


def line(row: dict) -> str:
  """A row in one line."""
  about = f"{row['size']} {row['shape']} {row['impl']} {row['policy']}, "
  about += f"{row['pairs']} pairs: "
  if "ended" in row:
    return about + row.get("why", row["ended"])
  return about + (
    f"{row['pairs_per_s']:.3f} pairs/s, {row['tokens_per_s']:.0f} tokens/s, "
    f"{100 * row['utilisation']:.1f} % of the card's peak"
  )


def text(rows: list[dict]) -> str:
  """The best of each implementation at each size, and what was not tried."""
  measured = [row for row in rows if "ended" not in row]
  head = ["model, prefix:response", "implementation", "recomputes", "pairs"]
  head += ["pairs/s", "tokens/s", "of peak", "GiB", "ours is faster by"]
  table, best = [head], {}
  for row in measured:
    key = (f"{row['size']}, {row['shape']}", row["impl"])
    if key not in best or row["pairs_per_s"] > best[key]["pairs_per_s"]:
      best[key] = row
  for (where, impl), row in best.items():
    ours = best.get((where, impl.replace("torch_", "") + "_shared"))
    table.append([where, impl, *cells(row, ours)])
  said = [f"{card}." for card in dict.fromkeys(r["card"] for r in measured)]
  said += list(dict.fromkeys(row["versions"] for row in measured))
  left = [line(row) for row in rows if row.get("ended") in (NO_TIME, FAILED)]
  parts = [" ".join(said), sections.table(table)]
  return "\n\n".join(parts + [f"- {x}" for x in left])


def cells(row: dict, ours: dict | None) -> list[str]:
  """A row's cells behind its name."""
  held = row["device_bytes"]
  return [
    row["policy"],
    str(row["pairs"]),
    f"{row['pairs_per_s']:.3f}",
    f"{row['tokens_per_s']:.0f}",
    f"{100 * row['utilisation']:.1f} %",
    f"{held / 2**30:.1f}" if held else "",
    f"{ours['pairs_per_s'] / row['pairs_per_s']:.2f}x" if ours else "",
  ]


if __name__ == "__main__":
  main()
