"""Plans in words, tables and JSON."""

from rich.table import Table

from synpo_jax.models import dropout
from synpo_jax.models import lora as lora_math
from synpo_jax.planning import choices
from synpo_jax.planning.chips import GIB
from synpo_jax.planning.targets import Target
from synpo_jax.planning.trial import Trial


def heading(c, target: Target, trial: Trial) -> list[str]:
  """What is planned: slice, mesh, batch, lengths, how it is computed."""
  step, choice, where = trial.step, trial.choice, target.slice
  prefix, response, frames = step.shape
  captions = step.batch.response.shape[2]
  video = "text alone"
  if frames:
    kind = "frames" if step.batch.features is None else "cached features"
    video = f"{frames} frames as {kind}"
  cut = f"{choice.accumulation} x {choice.batch_size}, {choice.each} a device"
  if step.batch.packed:
    steps, rows, length = step.batch.packed.tokens.shape
    places = step.batch.packed.begins.shape[2]
    full = places * (prefix + captions * response) / length
    cut = (
      f"{steps} x {rows} rows of {length}, {rows // choice.rows} a device, "
      f"{places} such pairs in each, {full:.0%} full"
    )
  lines = [
    f"{where.name}: {where.chips} chips, mesh {choice.mesh}",
    f"update: {trial.outcome.pairs} pairs as {cut}; "
    f"prefix {prefix} + {captions} x {response} tokens, {video}",
    f"step: loss {c.loss.name}, layout {c.step.layout_name}, remat "
    f"{choice.remat}, attention {step.model.attention.name}",
  ]
  lora = step.model.lora
  if lora:
    adapter = lora_math.describe(lora, step.model.config, step.model.split)
    lines.append(f"adapter: {adapter}")
  if lora and lora.dropout:
    lines.append(f"dropout: {dropout.describe(lora.dropout)}")
  if target.estimate:
    lines.append(
      f"estimate: compiled for {target.estimate} in the place of "
      f"{where.name}, whose compiler is not installed"
    )
  return lines


def memory_table(trial: Trial) -> Table:
  """GiB on each device."""
  table = Table("a device holds", "GiB")
  memory = trial.outcome.memory
  for name in ("weights", "adapter", "optimiser", "batch", "temporary"):
    table.add_row(name, f"{getattr(memory, name) / GIB:.2f}")
  table.add_row("peak", f"{memory.peak / GIB:.2f}", style="bold")
  table.add_row("usable", f"{memory.usable / GIB:.2f}")
  return table


def work_table(target: Target, trial: Trial) -> Table:
  """What a device does in an update, and the time it takes at best."""
  table = Table("an update, a device", "amount", "at most", "seconds")
  work, where = trial.outcome.work, target.slice
  links = sum(work.received.values())
  rows = (
    ("compute", f"{work.flops / 1e12:.1f} TFLOP", "peak", "TFLOP/s"),
    ("memory", f"{work.traffic / 1e9:.1f} GB", "bandwidth", "GB/s"),
    ("links", f"{links / 1e9:.2f} GB", "links", "GB/s"),
    ("vector", f"{work.vector / 1e9:.0f} G operations", "vector", "G/s"),
  )
  for name, amount, figure, unit in rows:
    rate = where.per_device(figure) / (1e12 if unit == "TFLOP/s" else 1e9)
    table.add_row(name, amount, f"{rate:.0f} {unit}", _s(work.seconds[name]))
  for kind, size in sorted(work.received.items()):
    table.add_row(f"  {kind}", f"{size / 1e9:.2f} GB", "", "")
  drawn = f"{work.random / 1e9:.0f} G operations"
  table.add_row("  random numbers", drawn, "", "")
  return table


def _s(seconds: float) -> str:
  return f"{seconds:.3g}"


def bound(trial: Trial) -> str:
  """The roofline in a line."""
  work = trial.outcome.work
  return (
    f"at best {work.bound:.3g} s an update, "
    f"{trial.outcome.pairs_per_hour:,.0f} pairs an hour; {work.binds} binds"
  )


def verdict(trial: Trial) -> str:
  """Whether it fits, in a line."""
  if trial.fault:
    return f"does not fit: {trial.fault}"
  memory = trial.outcome.memory
  needs = f"{memory.peak / GIB:.2f} of {memory.usable / GIB:.2f} GiB a device"
  if trial.fits:
    return f"fits: {needs}"
  if not trial.outcome.seconds:
    return f"does not fit: at least {needs}, without compiling"
  return f"does not fit: {needs}"


def change(c, trial: Trial) -> str:
  """The flags that make a choice."""
  return " ".join(choices.flags(c, trial.choice)) or "(the config as it is)"


def sweep_table(trials: list[Trial]) -> Table:
  """A row per mesh and micro-batch."""
  names = ("mesh", "pairs a device", "peak GiB", "s an update", "pairs/h")
  table = Table(*names, "binds", "fits")
  for trial in trials:
    choice, result = trial.choice, trial.outcome
    row = [choice.mesh, str(choice.each)]
    if result is None:
      table.add_row(*row, "", "", "", "", trial.fault)
      continue
    row.append(f"{result.memory.peak / GIB:.2f}")
    if result.work is None:
      table.add_row(*row, "", "", "", "no")
      continue
    work = result.work
    fits = "yes" if trial.fits else "no"
    rate = f"{result.pairs_per_hour:,.0f}"
    table.add_row(*row, _s(work.bound), rate, work.binds, fits)
  return table


def as_dict(c, target: Target, trial: Trial) -> dict:
  """All of a trial, for JSON: bytes, FLOPs, seconds."""
  row = {"topology": target.slice.name, "estimate": target.estimate}
  row |= trial.choice._asdict() | {"fits": trial.fits, "fault": trial.fault}
  row["flags"] = choices.flags(c, trial.choice)
  if trial.step is not None:
    row |= {"shape": trial.step.shape._asdict()}
    row |= {"attention": trial.step.model.attention.name}
  if trial.outcome is not None:
    row |= {"memory": trial.outcome.memory._asdict()}
    row |= {"pairs": trial.outcome.pairs, "compile": trial.outcome.seconds}
    if trial.outcome.work is not None:
      work = trial.outcome.work
      row |= {"work": work._asdict(), "binds": work.binds}
      row |= {"pairs_per_hour": trial.outcome.pairs_per_hour}
  return row
