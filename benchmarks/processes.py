"""The processes that are measured: started, told to step, ended.

What they answer is benchmarks/child.py's.
"""

import json
import os
import subprocess
import sys
import tempfile

from benchmarks import workload
from benchmarks.workload import ROOT


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
    raise RuntimeError(
      f"{self.task.impl} at {self.task.shape} ended with "
      f"{self.process.returncode} (-9: out of memory?)\n{tail}"
    )

  def end(self) -> None:
    """Ends the process, whatever it does."""
    self.process.kill()
    self.process.wait()


def environment(device: str, is_ours: bool) -> dict[str, str]:
  """What a process is started with; ours, as where no PyTorch is installed."""
  out = dict(os.environ, JAX_PLATFORMS=device, HF_HUB_OFFLINE="1")
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
