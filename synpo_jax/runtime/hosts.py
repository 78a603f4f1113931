"""Start-up of a run over several processes, and its end when one is lost."""

import contextlib
import re

import jax
from absl import flags

from synpo_jax.runtime.terminal import first_line

DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "Join the other processes that the cluster started (TPU VM, GKE, SLURM).",
)
COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "host:port of process 0, where no cluster tells it."
)
PROCESSES = flags.DEFINE_integer(
  "processes", None, "Number of processes, with --coordinator."
)
PROCESS = flags.DEFINE_integer(
  "process", None, "This process, from 0, with --coordinator."
)
FLAGS = ("distributed", "coordinator", "processes", "process")
# A process that says nothing for so long is dead, and the others end.
HEARTBEAT_SECONDS = 30
# What the errors have in common that a lost process leaves to the others.
LOST = re.compile("Gloo|NCCL|onnection|UNAVAILABLE|DEADLINE_EXCEEDED|heartbeat")


def start():
  """Joins the other processes, if the flags say so; before any JAX call.

  Raises ValueError, in one line: explicit flags that are missing or make no
  sense, no cluster that tells, processes that cannot be joined.
  """
  explicit = (COORDINATOR.value, PROCESSES.value, PROCESS.value)
  if any(value is not None for value in explicit):
    _check(*explicit)
    _join(*explicit, cluster_detection_method="deactivate")
  elif DISTRIBUTED.value:
    _join()


def _check(coordinator, processes, process):
  """Raises ValueError unless the explicit flags fit together."""
  if None in (coordinator, processes, process):
    raise ValueError(
      "--coordinator, --processes and --process go together: "
      f"got {coordinator}, {processes}, {process}"
    )
  if DISTRIBUTED.value:
    raise ValueError(
      "--distributed asks the cluster for what --coordinator, --processes and "
      "--process say; give one or the other"
    )
  if not re.fullmatch(r".+:\d+", coordinator):
    raise ValueError(f"--coordinator={coordinator}: give host:port")
  if not 0 <= process < processes:
    raise ValueError(
      f"--process={process}: with --processes={processes} it is one of 0 to "
      f"{processes - 1}"
    )


def _join(*explicit, **settings):
  try:
    jax.distributed.initialize(
      *explicit, heartbeat_timeout_seconds=HEARTBEAT_SECONDS, **settings
    )
  except (RuntimeError, ValueError) as error:
    if "coordinator_address should be defined" in str(error):
      raise ValueError(
        "--distributed found no cluster (TPU VM, GKE, srun); give "
        "--coordinator, --processes and --process instead"
      ) from error
    raise ValueError(
      f"cannot join the other processes: {first_line(error)}"
    ) from error


@contextlib.contextmanager
def joined():
  """Work that all processes do together.

  Raises ConnectionError, in one line, where JAX's error says that another
  process is gone.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    reason = first_line(error)
    if jax.process_count() == 1 or not LOST.search(reason):
      raise
    raise ConnectionError(
      "another process ended or cannot be reached; the same command on all "
      f"hosts goes on at the last checkpoint ({reason})"
    ) from error


def is_first() -> bool:
  """Whether this process is the one that prints and logs."""
  return jax.process_index() == 0


def say(line):
  """Prints one line, from the first process."""
  if is_first():
    print(line, flush=True)
