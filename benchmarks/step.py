"""One preference step, ours beside PyTorch's and TRL's: time and memory.

python benchmarks/peers.py setup
python benchmarks/step.py --shapes=1168:200,1168:400,600:300 --json=FILE

SmolLM2-135M's sizes with random weights, LoRA of rank 128, float32, one pair,
CPU. A step is forward, backward and the AdamW update of the adapter. Each
implementation is a process of its own, with the same weights and tokens, one
after the other; --rounds=2 goes over all of them again, backwards, for a busy
machine. `seconds` is the median of the timed steps, `spread` the largest less
the smallest, `cpu_seconds` the median of what all threads worked (or span while
waiting), `peak_bytes` the most memory the process held, start and compilation
included.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import peers, workload
from benchmarks.processes import Child, ensure_weights, measure

IMPLS = (
  "synpo_shared",
  "synpo_two_sequence",
  "dpo",
  "trl_dpo",
  "trl_simpo",
  "torch_synpo",
  "torch_dpo",
)
MORE = ("dpo_shared", "simpo_shared")
# Implementations that compute the same number: their losses are compared.
SAME = (
  ("synpo_shared", "synpo_two_sequence", "torch_synpo"),
  ("dpo", "dpo_shared", "torch_dpo", "trl_dpo"),
  ("simpo_shared", "trl_simpo"),
)
COMPARED = ("loss", "chosen_logp", "rejected_logp", "grad_norm")
TOLERANCE = 2e-4  # relative, float32


def in_turns(tasks, pythons, *, rounds: int, **how) -> list[list[Child]]:
  """Processes of each task: all tasks once, then all once more, backwards.

  One process at a time, because PyTorch's rows fill a small machine.
  """
  done = {task.impl: [] for task in tasks}
  for number in range(rounds):
    for task in tasks[:: -1 if number % 2 else 1]:
      child = measure(task, pythons[task.impl], **how)
      done[task.impl].append(child)
      show(row([child]))
  return list(done.values())


def row(children: list[Child]) -> dict:
  """What is written down of one implementation at a shape."""
  timed = [r for child in children for r in child.rows[1:]]
  seconds = [r["seconds"] for r in timed]
  first = children[0]
  return dict(
    shape=str(first.task.shape),
    impl=first.task.impl,
    seconds=statistics.median(seconds),
    spread=max(seconds) - min(seconds),
    peak_bytes=max(child.rows[-1]["peak_bytes"] for child in children),
    cpu_seconds=statistics.median(r["cpu_seconds"] for r in timed),
    timed=len(seconds),
    machine=machine(),
    load=os.getloadavg()[0],
    dropout=first.task.dropout,
    malloc=os.environ.get("GLIBC_TUNABLES", "default"),
    **first.facts,
    **{name: first.rows[0][name] for name in COMPARED},
  )


def machine() -> str:
  """Processor, cores and memory, in words."""
  words = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  names = [x.split(":")[1].strip() for x in words if x.startswith("model name")]
  size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
  cores = len(os.sched_getaffinity(0))
  name = names[0] if names else platform.machine()
  return (
    f"{name}, {cores} cores, {size:.0f} GiB, Python {sys.version.split()[0]}"
  )


def check(rows: list[dict]) -> list[str]:
  """Where implementations of the same step, on the same weights, differ."""
  faults = []
  for shape in {r["shape"] for r in rows}:
    for group in SAME:
      found = [r for r in rows if r["shape"] == shape and r["impl"] in group]
      for other in found[1:]:
        faults += differences(found[0], other)
  return faults


def differences(first: dict, other: dict) -> list[str]:
  """One line for each number of two rows that is not the same."""
  faults = []
  for name in COMPARED:
    a, b = first[name], other[name]
    if not abs(a - b) <= TOLERANCE * abs(a):
      where = f"{first['impl']} and {other['impl']} at {first['shape']}"
      faults.append(f"{where}: {name} is {a:.7g} and {b:.7g}")
  return faults


def flags(argv):
  """The command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  add = parser.add_argument
  add("--shapes", default="1168:200,1168:400,600:300", help="PREFIX:RESPONSE,…")
  add("--json", help="file for the rows; without it they are printed only")
  add("--impls", default=",".join(IMPLS), help=f"and: {', '.join(MORE)}")
  add("--repeats", type=int, default=3, help="timed steps of a process")
  add("--rounds", type=int, default=1, help="processes of each")
  add("--threads", type=int, default=os.cpu_count(), help="cores of each")
  add("--size", choices=sorted(workload.SIZES), default="smollm2_135m")
  add("--rank", type=int, default=128, help="of the adapter")
  add("--peers-python", help="interpreter with PyTorch, TRL and PEFT")
  add("--without-peers", action="store_true", help="ours only")
  add("--dropout", type=float, default=workload.RECIPE["dropout"])
  add("--check", action="store_true", help="fail where losses differ")
  add("--set", default="", help="of our config: step.head_chunk=256,…")
  return parser.parse_args(argv)


def tasks_of(args, shape, impls) -> list[workload.Task]:
  """What is measured at a shape."""
  pairs = (item.split("=", 1) for item in filter(None, args.set.split(",")))
  overrides = {key: literal(value) for key, value in pairs}
  folder = workload.weights_folder(args.size, args.rank, "float32")
  return [
    workload.Task(
      impl,
      shape,
      args.size,
      pairs=1,
      folder=str(folder),
      dtype="float32",
      device="cpu",
      checkpointing=False,
      dropout=args.dropout,
      overrides=overrides,
    )
    for impl in impls
  ]


def literal(text: str):
  """A number where it is one, else the text."""
  try:
    return json.loads(text)
  except json.JSONDecodeError:
    return text


def chosen_impls(args) -> list[str]:
  """Raises ValueError for a name that is none."""
  impls = args.impls.split(",")
  for impl in impls:
    if impl not in IMPLS + MORE:
      known = ", ".join(IMPLS + MORE)
      raise ValueError(f"--impls: {impl!r} is not one of {known}")
  if args.without_peers:
    impls = [i for i in impls if not i.startswith(("torch_", "trl_"))]
  return impls


def pythons_of(args, impls) -> dict:
  """The interpreter of each implementation."""
  theirs = [i for i in impls if i.startswith(("torch_", "trl_"))]
  found = dict.fromkeys(impls, sys.executable)
  return found | dict.fromkeys(
    theirs, peers.python(args.peers_python) if theirs else None
  )


def show(found: dict) -> None:
  """One line of a row, as it comes."""
  print(
    f"{found['shape']:>9} {found['impl']:<19} {found['seconds']:8.3f} s "
    f"+-{found['spread']:.3f} {found['peak_bytes'] / 2**20:8.0f} MiB "
    f"loss {found['loss']:.6f}",
    flush=True,
  )


def run(args) -> list[dict]:
  """Measures everything that was asked for."""
  if args.check and args.dropout:
    raise ValueError("--check compares losses: give --dropout=0 too")
  impls = chosen_impls(args)
  pythons = pythons_of(args, impls)
  shapes = [workload.shape(text) for text in args.shapes.split(",")]
  ensure_weights(args.size, args.rank, "float32")
  rows = []
  for shape in shapes:
    tasks = tasks_of(args, shape, impls)
    how = dict(threads=args.threads, repeats=args.repeats)
    rows += map(row, in_turns(tasks, pythons, rounds=args.rounds, **how))
  return rows


def main(argv=None):
  """Measures, writes the rows, and fails where implementations disagree."""
  args = flags(argv)
  try:
    rows = run(args)
  except (ValueError, OSError, RuntimeError) as error:
    sys.exit(f"error: {error}")
  if args.json:
    path = pathlib.Path(args.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n")
  if args.dropout:
    print("losses are not compared: each draws its own dropout")
    return
  faults = check(rows)
  print("\n".join(faults) if faults else "losses and gradients agree")
  if faults and args.check:
    sys.exit("error: implementations of the same step disagree")


if __name__ == "__main__":
  main()
