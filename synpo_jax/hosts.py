"""Start-up of a run over several processes."""

import jax
from absl import flags

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
# A process that says nothing for so long is dead, and the others end.
HEARTBEAT_SECONDS = 30


def start():
  """Joins the other processes, if the flags say so; before any JAX call.

  Raises ValueError when the three explicit flags are not given together.
  """
  explicit = (COORDINATOR.value, PROCESSES.value, PROCESS.value)
  if any(value is not None for value in explicit):
    if None in explicit:
      raise ValueError(
        "--coordinator, --processes and --process go together: "
        f"got {COORDINATOR.value}, {PROCESSES.value}, {PROCESS.value}"
      )
    jax.distributed.initialize(
      *explicit, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
    )
  elif DISTRIBUTED.value:
    jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)


def is_first() -> bool:
  """Whether this process is the one that prints and logs."""
  return jax.process_index() == 0


def say(line):
  """Prints one line, from the first process."""
  if is_first():
    print(line, flush=True)
