"""A preference step on one GPU in bfloat16, ours beside PyTorch's.

python benchmarks/gpu.py --sizes=llama_1b,vicuna_7b --json=FILE

Llama-3.2-1B's and Vicuna-7B's sizes, random weights, LoRA of rank 128 in
float32. Each implementation is tried with 1, 2, 4 ... pairs until its memory
is full, PyTorch's with and without gradient checkpointing, and the fastest per
pair is kept. Utilisation is of the FLOPs that one pair needs with its prompt
read once and nothing recomputed (benchmarks/floor.py), at the card's dense
bfloat16 peak.
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import floor, peers, step, workload
from benchmarks.processes import ensure_weights, measure

IMPLS = ("synpo_shared", "dpo_shared", "torch_synpo", "torch_dpo")
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # NVIDIA, dense bf16
MOST_PAIRS = 32


def settings(impl):
  """(our overrides, PyTorch's checkpointing) to try."""
  if impl.startswith("torch_"):
    return [({}, False), ({}, True)]
  return [({"model.remat": policy}, False) for policy in ("save_dots", "full")]


def tried(args, size, shape, impl, pythons) -> list[dict]:
  """Rows of every setting, with as many pairs as fit."""
  rows = []
  for overrides, checkpointing in settings(impl):
    pairs = 1
    while pairs <= args.most_pairs:
      task = workload.Task(
        impl,
        shape,
        size,
        pairs=pairs,
        folder=str(workload.weights_folder(size, args.rank, args.dtype)),
        dtype=args.dtype,
        device=args.device,
        checkpointing=checkpointing,
        overrides=overrides,
      )
      try:
        child = measure(
          task, pythons[impl], threads=args.threads, repeats=args.repeats
        )
      except RuntimeError as error:  # memory is full: no more pairs
        print(str(error).splitlines()[-1], file=sys.stderr)
        break
      rows.append(row(child, args))
      pairs *= 2
  return rows


def row(child, args) -> dict:
  """What is written down of one setting."""
  task, found = child.task, step.row([child])
  parts = floor.needed(
    task.size,
    args.rank,
    task.shape,
    shared=True,
    reference="dpo" in task.impl,
  )
  a_second = task.pairs / found["seconds"]
  useful = floor.tokens(task.shape, shared=True)
  return found | dict(
    size=task.size,
    pairs=task.pairs,
    checkpointing=task.checkpointing,
    pairs_per_s=a_second,
    tokens_per_s=a_second * useful,
    utilisation=a_second * sum(parts.values()) / PEAK[args.card],
    device_bytes=child.rows[-1].get("device_bytes"),
  )


def flags(argv):
  """The command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  add = parser.add_argument
  add("--sizes", default="llama_1b,vicuna_7b")
  add("--shapes", default="1796:256", help="PREFIX:RESPONSE,…")
  add("--impls", default=",".join(IMPLS))
  add("--json", help="file for the rows")
  add("--card", choices=sorted(PEAK), default="H200")
  add("--rank", type=int, default=128)
  add("--dtype", default="bfloat16")
  add("--device", default="cuda", help="cpu, to try the script out")
  add("--most_pairs", type=int, default=MOST_PAIRS)
  add("--repeats", type=int, default=5)
  add("--threads", type=int, default=16)
  add("--peers-python", help="interpreter with PyTorch and PEFT")
  return parser.parse_args(argv)


def main(argv=None):
  """Measures, writes the rows, and prints the best of each."""
  args, rows = flags(argv), []
  try:
    theirs = peers.python(args.peers_python)
  except FileNotFoundError as error:
    sys.exit(f"error: {error}")
  impls = args.impls.split(",")
  pythons = {i: theirs if "torch" in i else sys.executable for i in impls}
  for size in args.sizes.split(","):
    ensure_weights(size, args.rank, args.dtype)
    for shape in map(workload.shape, args.shapes.split(",")):
      for impl in impls:
        found = tried(args, size, shape, impl, pythons)
        if not found:
          sys.exit(f"error: {impl} does not run at {size} {shape}")
        rows += found
        print(line(max(found, key=lambda r: r["pairs_per_s"])), flush=True)
  if args.json:
    pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


def line(found: dict) -> str:
  """The best of an implementation, in one line."""
  return (
    f"{found['size']} {found['shape']} {found['impl']:<13} {found['pairs']} "
    f"pairs: {found['pairs_per_s']:.3f} pairs/s, "
    f"{found['tokens_per_s']:.0f} tokens/s, "
    f"{100 * found['utilisation']:.1f} % of the card's peak"
  )


if __name__ == "__main__":
  main()
