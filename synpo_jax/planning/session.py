"""A plan from a config and the name of a slice, told as it is found."""

from rich.console import Console

from synpo_jax.planning import choices, micro_batch, tables, targets, trial


def judge(console: Console, c, topology, lengths, most):
  """Judges a config on a slice; looks for what would fit where it does not.

  Returns the trials as dicts, and whether the config as it is fits. Raises
  ValueError, in one line, for what cannot be planned.
  """
  target = targets.make(topology)
  start, rows = choices.configured(c, target.slice), []
  if micro_batch.asks_for_most(c):
    first, others = cut(console, c, target, start, lengths)
    rows += [tables.as_dict(c, target, other) for other in others]
  else:
    first = trial.run(c, target, start, lengths)
  rows.append(tables.as_dict(c, target, first))
  if first.fault:
    raise ValueError(first.fault)
  found, open_mesh = first, -1 in c.mesh.values()
  if not first.fits:
    console.print(
      f"{first.choice.mesh}: {tables.verdict(first)}", soft_wrap=True
    )
    search = trial.until_one_fits(c, target, first, lengths, most, open_mesh)
    for found in search:
      rows.append(tables.as_dict(c, target, found))
      tell(console, c, found)
  show(console, c, target, found)
  ok = found.fits and (first.fits or open_mesh and same_work(first, found))
  console.print(conclusion(c, first, found, ok), style="bold", soft_wrap=True)
  return rows, ok


def cut(console, c, target, start, lengths):
  """(the micro-batch to take, the others), each told as it is found."""
  tried = []
  for one in trial.cuts(c, target, start, lengths):
    tried.append(one)
    tell(console, c, one)
  taken = trial.best(tried)
  return taken, [one for one in tried if one is not taken]


def tell(console, c, one):
  """The flags of a trial, whether it fits, and its bound."""
  line = f"  {tables.change(c, one)}: {tables.verdict(one)}"
  if one.fits:
    line += f"; {tables.bound(one)}"
  console.print(line, soft_wrap=True)


def same_work(first, found) -> bool:
  """Whether nothing but the mesh changed."""
  return choices.but_for_mesh(first.choice) == choices.but_for_mesh(
    found.choice
  )


def show(console, c, target, found):
  """Heading and tables of a trial."""
  for line in tables.heading(c, target, found):
    console.print(line, soft_wrap=True)
  console.print(tables.memory_table(found))
  if found.outcome.work is not None:
    console.print(tables.work_table(target, found))
    console.print(tables.bound(found))


def conclusion(c, first, found, ok) -> str:
  """The verdict, and what to add to the command."""
  if first.fits:
    added = tables.change(c, first)
    return f"verdict: {tables.verdict(first)}\ntrain it with: {added}"
  if not found.fits:
    return f"verdict: {tables.verdict(first)}; no change was found that fits"
  added = tables.change(c, found)
  if ok:
    return f"verdict: {tables.verdict(found)}\ntrain it with: {added}"
  return (
    f"verdict: {tables.verdict(first)}\nthe cheapest change that fits: {added}"
  )


def sweep(console: Console, c, topology, lengths, most_each):
  """Tabulates meshes and micro-batches; True if any of them fits."""
  target = targets.make(topology)
  start = choices.configured(c, target.slice)
  grid = choices.grid(start, target.slice.devices, most_each)
  done = []
  for one in trial.sweep(c, target, grid, lengths):
    done.append(one)
    where = f"{one.choice.mesh}, {one.choice.each} a device"
    console.print(f"{where}: {tables.verdict(one)}", soft_wrap=True)
  if done:
    console.print(tables.sweep_table(done))
  rows = [tables.as_dict(c, target, one) for one in done]
  return rows, any(one.fits for one in done)
