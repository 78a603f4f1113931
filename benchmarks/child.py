"""What a measured process says: ready, then a line for every step it is told
to make."""

import json
import os
import resource
import sys
import time

from benchmarks import workload


def serve(make) -> None:
  """Answers each line on stdin with one step, in JSON on stdout.

  make: Task -> (step, facts); step() makes one whole update and returns its
  numbers, facts are said when it is ready for steps. What libraries print
  goes to stderr.
  """
  out = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)
  step, facts = make(workload.task(sys.argv[1]))
  print(json.dumps(facts | {"ready_bytes": resident_bytes()}), file=out)
  for _ in sys.stdin:
    start, used = time.perf_counter(), time.process_time()
    values = step()
    row = {
      "seconds": time.perf_counter() - start,
      "cpu_seconds": time.process_time() - used,
      "peak_bytes": peak_bytes(),
    }
    print(json.dumps(row | values), file=out)


def resident_bytes() -> int:
  """Memory this process holds now."""
  with open("/proc/self/statm") as file:
    return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
  """The most it ever held, as /usr/bin/time reports it."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
