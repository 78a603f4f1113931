"""What the recipe's dropout costs a step: with it and without, in turns.

python -m benchmarks.dropout --shape=1168:200 --rounds=6

Both programs are in one process, as two processes differ by more than dropout
costs. Printed are the medians of their seconds, and of each round's ratio.
"""

import argparse
import statistics
import time

from benchmarks import step, step_ours, workload
from benchmarks.processes import ensure_weights


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--shape", default="1168:200", help="PREFIX:RESPONSE")
  parser.add_argument("--rounds", type=int, default=6)
  parser.add_argument("--size", default="smollm2_135m", help="as step.py has")
  args = parser.parse_args()
  given, shape = step.flags([f"--size={args.size}"]), workload.shape(args.shape)
  [task] = step.tasks_of(given, shape, ["synpo_shared"])
  ensure_weights(task.size, given.rank, task.dtype)
  updates = [
    step_ours.make(task._replace(dropout=rate))[0]
    for rate in (0.0, workload.RECIPE["dropout"])
  ]
  for update in updates:
    update()
  rounds = [in_turn(updates, number % 2) for number in range(args.rounds)]
  without, with_it = map(statistics.median, zip(*rounds, strict=True))
  more = statistics.median(b / a - 1 for a, b in rounds)
  print(f"{step.machine()}, {args.shape}, {args.rounds} rounds")
  print(f"without {without:.2f} s, with {with_it:.2f} s: {more:.1%} more")


def in_turn(updates, backwards: int) -> list[float]:
  """Seconds of each, in the updates' order."""
  seconds = [0.0] * len(updates)
  places = range(len(updates))
  for place in reversed(places) if backwards else places:
    began = time.perf_counter()
    updates[place]()
    seconds[place] = time.perf_counter() - began
  return seconds


if __name__ == "__main__":
  main()
