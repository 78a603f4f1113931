"""Compiles plans, one choice after another, until one fits."""

import math
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax

from synpo_jax.planning import abstract_step as steps
from synpo_jax.planning import choices, outcome
from synpo_jax.planning.choices import Choice
from synpo_jax.planning.outcome import Outcome
from synpo_jax.planning.targets import Target
from synpo_jax.runtime import hosts


class Trial(NamedTuple):
  """A choice and what came of it; `fault` where it cannot be made at all."""

  choice: Choice
  step: steps.Step | None
  outcome: Outcome | None
  fault: str = ""

  @property
  def fits(self) -> bool:
    return self.outcome is not None and self.outcome.fits


def run(c, target: Target, choice: Choice, lengths) -> Trial:
  """Compiles the config's train step with a choice, unless that is in vain.

  lengths: frames and response, as `step.pair_shape` takes them. Where the
  least that it needs exceeds a device's memory, nothing is compiled.
  """
  began = time.perf_counter()
  c = choices.apply(c, choice)
  try:
    step = steps.build(c, target.devices, *lengths)
  except ValueError as error:
    return Trial(choice, None, None, str(error))
  memory = outcome.before_compiling(step, target.slice.per_device("usable"))
  pairs = math.prod(step.batch.weight.shape)
  if not memory.fits:
    return Trial(choice, step, Outcome(memory, None, pairs, 0.0))
  hosts.say(f"compiling {choice}")
  memory, work = compile_step(step, target, memory)
  seconds = time.perf_counter() - began
  return Trial(choice, step, Outcome(memory, work, pairs, seconds))


def cuts(c, target, start: Choice, lengths) -> Iterator[Trial]:
  """Trials of an update in fewer micro-batches, the largest first, and of
  `start`."""
  for size, times in choices.cuts(start.batch_size, start.accumulation):
    cut = start._replace(batch_size=size, accumulation=times)
    yield run(c, target, cut, lengths)


def best(tried: list[Trial]) -> Trial:
  """That of the least bound among those that fit; the last where none does.

  Of those about alike the first.
  """
  fitting = [one for one in tried if one.fits]
  if not fitting:
    return tried[-1]
  bounds = [one.outcome.work.bound for one in fitting]
  return fitting[choices.best(bounds)]


def compile_step(step, target: Target, memory):
  """The compiled step's memory, and its work; None where it does not fit."""
  try:
    compiled, text = compile_text(step.lower(), target.devices[0].platform)
  except jax.errors.JaxRuntimeError as error:
    return outcome.exceeded(memory, str(error)), None
  memory = outcome.measured(memory, compiled)
  return memory, outcome.work(step, text, target.slice)


def compile_text(lowered, platform: str):
  """The compiled program, and its text.

  The compiler for TPUs writes the text while it compiles: jaxlib cannot read
  back what those with sparse cores (v5p) are given for a gather.
  """
  if platform != "tpu":
    compiled = lowered.compile()
    return compiled, compiled.as_text()
  with tempfile.TemporaryDirectory() as folder:
    options = dict(xla_dump_to=folder, xla_dump_hlo_as_text=True)
    compiled = lowered.compile(compiler_options=options)
    [path] = pathlib.Path(folder).glob("*.after_optimizations.txt")
    return compiled, path.read_text()


def until_one_fits(
  c, target, start: Trial, lengths, most, open_mesh
) -> Iterator[Trial]:
  """Trials of changes, the cheapest first; the last one fits, if any does.

  open_mesh: other meshes come before all other changes. Choices that need no
  less than one that failed are passed over; at most `most` are compiled.
  """
  failed, compiled = [start.choice], 0
  devices = target.slice.devices
  for choice in choices.smaller(start.choice, devices, open_mesh):
    if any(choices.needs_no_less(choice, other) for other in failed):
      continue
    trial = run(c, target, choice, lengths)
    if trial.fault:
      continue
    failed.append(choice)
    yield trial
    compiled += trial.outcome.seconds > 0
    if trial.fits or compiled == most:
      return


def sweep(c, target, grid: list[Choice], lengths) -> Iterator[Trial]:
  """Trials of a grid; those that cannot fit as a smaller one did not are not
  compiled and not given."""
  failed = []
  for choice in grid:
    if any(choices.needs_no_less(choice, other) for other in failed):
      continue
    trial = run(c, target, choice, lengths)
    if not trial.fault and not trial.fits:
      failed.append(choice)
    yield trial
