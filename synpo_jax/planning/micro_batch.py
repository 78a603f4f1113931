"""How many pairs the devices at hand take at once, by the compiler's word."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from synpo_jax.planning import abstract_step, chips, choices, outcome
from synpo_jax.runtime import hosts
from synpo_jax.runtime.compiled_memory import peak_bytes

WAYS = ("given", "most")


def asks_for_most(c) -> bool:
  """Whether `micro_batch` says so; ValueError for a word that is none."""
  if c.micro_batch not in WAYS:
    raise ValueError(f"micro_batch={c.micro_batch}: choose given or most")
  return c.micro_batch == "most"


class Cut(NamedTuple):
  """How an update is cut; the seconds that it takes at least, if known."""

  batch_size: int
  accumulation: int
  bound: float | None


def settle(c):
  """Sets data.batch_size and accumulation as `micro_batch` asks.

  An update keeps its pairs. Where the devices do not tell how much memory they
  have, as CPUs, all stays as it is, which is said.
  """
  if not asks_for_most(c):
    return
  stats, kind = _told(), jax.local_devices()[0].device_kind
  if "bytes_limit" not in stats:
    hosts.say(
      f"micro_batch=most: {kind} does not tell its memory; data.batch_size="
      f"{c.data.batch_size} x data.accumulation={c.data.accumulation} stay"
    )
    return
  size, times, bound = most(c, float(stats["bytes_limit"]), weigh)
  c.data.update(batch_size=size, accumulation=times)
  line = f"micro_batch=most: {times} x {size} pairs an update"
  if bound is not None:
    line += f", at best {bound:.3g} s"
  elif _here() is None:
    line += f", by memory alone: what bounds a step on {kind} is not known"
  else:
    line += "; its bound could not be counted"
  hosts.say(line)


def _told() -> dict:
  """What a device says of its memory."""
  return jax.local_devices()[0].memory_stats() or {}


def _here() -> chips.Slice | None:
  """The devices of the run; None where their figures are not known."""
  return chips.of_kind(jax.devices()[0].device_kind, jax.device_count())


def most(c, limit: float, weigh: Callable) -> Cut:
  """The cut of the least bound among those that fit, ties to the larger.

  weigh: (config, limit) -> bytes on a device, and the bound in seconds or None.
  Without bounds it is the largest that fits; without one that fits, as given,
  so that the run says what it lacks.
  """
  fitting = []
  for size, times in choices.cuts(c.data.batch_size, c.data.accumulation):
    if times == c.data.accumulation and not fitting:
      return Cut(size, times, None)
    changed = c.copy_and_resolve_references()
    changed.data.update(batch_size=size, accumulation=times)
    hosts.say(f"micro_batch=most: looks at {times} x {size} pairs an update")
    needed, bound = weigh(changed, limit)
    if needed <= limit:
      fitting.append(Cut(size, times, bound))
      if bound is None:
        return fitting[0]
  return fitting[choices.best([cut.bound for cut in fitting])]


def weigh(c, limit: float) -> tuple[float, float | None]:
  """Bytes of a device that the step at its largest shape needs; its bound.

  Compiled only where what is known without a compiler is within the limit.
  """
  step = abstract_step.build(c, jax.devices())
  before = outcome.before_compiling(step, limit)
  if not before.fits:
    return before.peak, None
  try:
    compiled = step.lower().compile()
  except jax.errors.JaxRuntimeError as error:
    return outcome.exceeded(before, str(error)).peak, None
  return float(peak_bytes(compiled)), _bound(step, compiled)


def _bound(step, compiled) -> float | None:
  """Seconds; None for other devices, and where jaxlib cannot read the text.

  That is so of v5p's, whose sparse cores are given the gathers.
  """
  where = _here()
  if where is None:
    return None
  try:
    text = compiled.as_text()
  except (NotImplementedError, jax.errors.JaxRuntimeError):
    return None
  return outcome.work(step, text, where).bound if text else None
