"""How tests compile for the CPU: in half of the time, for slower programs."""

import os

OPTIONS = (
  "--xla_cpu_use_fusion_emitters=false",
  "--xla_cpu_parallel_codegen_split_count=1",
  # Virtual devices wait for each other, on a loaded machine for long.
  "--xla_cpu_collective_call_terminate_timeout_seconds=300",
)


def flags(devices: int) -> str:
  """XLA_FLAGS of a process with so many virtual devices."""
  return " ".join(
    (f"--xla_force_host_platform_device_count={devices}", *OPTIONS)
  )


def without_flags() -> dict:
  """The environment without XLA_FLAGS: as a user's, and of other compilers."""
  return {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
