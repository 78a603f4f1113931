"""The processes that are measured: started, told to step, ended.

What they answer is benchmarks/child.py's.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

from benchmarks import workload
from benchmarks.workload import ROOT
from synpo_jax.runtime import starting

# How XLA, PyTorch and the system say that memory is full.
FULL = re.compile(
  r"RESOURCE_EXHAUSTED|OutOfMemoryError|out.of.memory|ended with -9", re.I
)


class OutOfMemory(RuntimeError):
  """A process that ended because a memory was full."""


class Child:
  """A process that makes steps when told to."""

  def __init__(self, task: workload.Task, python, threads: int):
    self.task, self.log = task, tempfile.TemporaryFile("w+")
    is_ours = not task.impl.startswith(("torch_", "trl_"))
    module = "step_ours" if is_ours else "step_torch"
    cores = sorted(os.sched_getaffinity(0))[:threads]
    self.process = subprocess.Popen(
      [python, "-m", f"benchmarks.{module}", task.text()],
      cwd=ROOT,
      env=environment(task.device, is_ours),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self.log,
      text=True,
      preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    self.facts, self.rows = {}, []

  def wait_until_ready(self) -> None:
    """Reads what the process says of itself."""
    self.facts = self._answer()

  def step(self) -> None:
    """One more step."""
    self.process.stdin.write("step\n")
    self.process.stdin.flush()
    self.rows.append(self._answer())

  def _answer(self):
    line = self.process.stdout.readline()
    if line:
      return json.loads(line)
    self.process.wait()
    self.log.seek(0)
    tail = "\n".join(self.log.read().splitlines()[-15:])
    said = (
      f"{self.task.impl} at {self.task.shape} ended with "
      f"{self.process.returncode}"
    )
    is_full = FULL.search(f"{said}\n{tail}")
    raise (OutOfMemory if is_full else RuntimeError)(f"{said}\n{tail}")

  def end(self) -> None:
    """Ends the process, whatever it does."""
    self.process.kill()
    self.process.wait()


def environment(device: str, is_ours: bool) -> dict[str, str]:
  """What a process is started with; ours, as where no PyTorch is installed.

  All may take the same part of a GPU's memory.
  """
  out = dict(os.environ, JAX_PLATFORMS=device, HF_HUB_OFFLINE="1")
  out[starting.PART[0]] = str(starting.GPU_PART)
  return out | {"USE_TORCH": "0"} if is_ours else out


def measure(task, python, *, threads: int, repeats: int) -> Child:
  """One process: a step that is not timed, then `repeats` that are."""
  child = Child(task, python, threads)
  try:
    child.wait_until_ready()
    for _ in range(repeats + 1):
      child.step()
  finally:
    child.end()
  return child


def ensure_weights(size: str, rank: int, dtype: str) -> None:
  """Writes the random weights that all read, unless they are there."""
  if workload.weights_folder(size, rank, dtype).exists():
    return
  subprocess.run(
    [sys.executable, "-m", "benchmarks.step_ours", "--weights"]
    + [size, str(rank), dtype],
    cwd=ROOT,
    env=environment("cpu", True),
    check=True,
  )
