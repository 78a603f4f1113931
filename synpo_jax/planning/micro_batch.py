"""How many pairs the devices at hand take at once, by the compiler's word."""

from collections.abc import Callable

import jax

from synpo_jax.planning import abstract_step, choices, outcome
from synpo_jax.runtime import hosts
from synpo_jax.runtime.compiled_memory import peak_bytes

WAYS = ("given", "most")


def asks_for_most(c) -> bool:
  """Whether `micro_batch` says so; ValueError for a word that is none."""
  if c.micro_batch not in WAYS:
    raise ValueError(f"micro_batch={c.micro_batch}: choose given or most")
  return c.micro_batch == "most"


def settle(c):
  """Sets data.batch_size and accumulation as `micro_batch` asks.

  An update keeps its pairs. Where the devices do not tell how much memory they
  have, as CPUs, all stays as it is, which is said.
  """
  if not asks_for_most(c):
    return
  stats = _told()
  if "bytes_limit" not in stats:
    kind = jax.local_devices()[0].device_kind
    hosts.say(
      f"micro_batch=most: {kind} does not tell its memory; data.batch_size="
      f"{c.data.batch_size} x data.accumulation={c.data.accumulation} stay"
    )
    return
  size, times = most(c, float(stats["bytes_limit"]), needs)
  c.data.update(batch_size=size, accumulation=times)
  hosts.say(f"micro_batch=most: {times} x {size} pairs an update")


def _told() -> dict:
  """What a device says of its memory."""
  return jax.local_devices()[0].memory_stats() or {}


def most(c, limit: float, needs: Callable) -> tuple[int, int]:
  """(batch_size, accumulation) with the fewest micro-batches that fit.

  needs: (config, limit) -> bytes on a device. Without one that fits: as given,
  so that the run says what it lacks.
  """
  given = c.data.batch_size, c.data.accumulation
  for size, times in choices.cuts(*given):
    if (size, times) != given:
      changed = c.copy_and_resolve_references()
      changed.data.update(batch_size=size, accumulation=times)
      if needs(changed, limit) <= limit:
        return size, times
  return given


def needs(c, limit: float) -> float:
  """Bytes of a device that the step at its largest shape needs.

  Compiled only where what is known without a compiler is within the limit.
  """
  step = abstract_step.build(c, jax.devices())
  before = outcome.before_compiling(step, limit)
  if not before.fits:
    return before.peak
  try:
    return float(peak_bytes(step.lower().compile()))
  except jax.errors.JaxRuntimeError as error:
    return outcome.exceeded(before, str(error)).peak
