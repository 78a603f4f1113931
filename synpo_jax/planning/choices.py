"""What a plan may change, and in which order changes are tried."""

import itertools
from typing import NamedTuple

from synpo_jax.planning.chips import Slice

# Remat policies, the most memory first; what a step costs under each in units
# of the least (FLOPs of a 7B decoder with a frozen base, counted by XLA).
REMAT = {"none": 1.0, "save_dots": 1.01, "save_attention": 1.21, "full": 1.38}
# Guesses that only order the trials: what halving the micro-batch, doubling
# the devices that share the weights, or those that share heads adds.
HALVED, SPREAD, SPLIT = 0.02, 0.06, 0.25
# Bounds that are so close are alike: counts of memory traffic are no finer.
ALIKE = 0.01


class Choice(NamedTuple):
  """A mesh, how an update is cut into micro-batches, and a remat policy."""

  data: int
  fsdp: int
  model: int
  batch_size: int
  accumulation: int
  remat: str

  def __str__(self) -> str:
    cut = f"{self.accumulation} x {self.batch_size} pairs, {self.remat}"
    return f"{cut}, {self.mesh}"

  @property
  def mesh(self) -> str:
    """Its axes, in words."""
    return f"data {self.data}, fsdp {self.fsdp}, model {self.model}"

  @property
  def rows(self) -> int:
    """Devices that split a micro-batch."""
    return self.data * self.fsdp

  @property
  def each(self) -> int:
    """Pairs of a micro-batch on each of them."""
    return self.batch_size // self.rows


def configured(c, where: Slice) -> Choice:
  """What a config asks for on a slice.

  A -1 in its mesh takes the devices left over. A micro-batch that the mesh
  cannot split is raised to the next that it can, with as few micro-batches as
  hold the same pairs. Raises ValueError for a mesh of another size.
  """
  sizes = [c.mesh.data, c.mesh.fsdp, c.mesh.model]
  known = 1
  for size in sizes:
    known *= 1 if size == -1 else size
  rest = where.devices // known
  data, fsdp, model = (rest if size == -1 else size for size in sizes)
  if data * fsdp * model != where.devices:
    raise ValueError(
      f"mesh data {data} x fsdp {fsdp} x model {model} does not make the "
      f"{where.devices} devices of {where.name}"
    )
  batch, pairs = c.data.batch_size, c.data.batch_size * c.data.accumulation
  if batch % (data * fsdp):
    batch = -(-batch // (data * fsdp)) * data * fsdp
  accumulation = c.data.accumulation
  if batch != c.data.batch_size:
    accumulation = max(1, -(-pairs // batch))
  return Choice(data, fsdp, model, batch, accumulation, c.model.remat)


def cuts(batch_size: int, accumulation: int) -> list[tuple[int, int]]:
  """The same update in fewer and larger micro-batches, the largest first.

  (batch_size, accumulation); the given ones come last.
  """
  pairs = batch_size * accumulation
  fewer = (n for n in range(1, accumulation + 1) if accumulation % n == 0)
  return [(pairs // n, n) for n in fewer]


def best(bounds: list[float]) -> int:
  """Which of some bounds to take: the first that is about the least."""
  least = min(bounds)
  return next(
    i for i, bound in enumerate(bounds) if bound <= (1 + ALIKE) * least
  )


def apply(c, choice: Choice):
  """A copy of the config that makes the choice."""
  c = c.copy_and_resolve_references()
  c.mesh.update(data=choice.data, fsdp=choice.fsdp, model=choice.model)
  c.data.update(batch_size=choice.batch_size, accumulation=choice.accumulation)
  c.model.remat = choice.remat
  return c


def flags(c, choice: Choice) -> list[str]:
  """What to add to a command so that its config makes the choice.

  A -1 in the mesh takes the devices left over, which is what is left to it.
  """
  wanted = {
    "mesh.data": choice.data,
    "mesh.fsdp": choice.fsdp,
    "mesh.model": choice.model,
    "data.batch_size": choice.batch_size,
    "data.accumulation": choice.accumulation,
    "model.remat": choice.remat,
  }
  written = {key: c[key.split(".")[0]][key.split(".")[1]] for key in wanted}
  return [
    f"--config.{key}={value}"
    for key, value in wanted.items()
    if value != written[key] and written[key] != -1
  ]


def smaller(start: Choice, devices: int, open_mesh: bool) -> list[Choice]:
  """Choices that need less memory than `start`, the cheapest change first.

  Micro-batches are halved (an update keeps its pairs), weights are spread
  over more devices, more is computed anew, heads are split. open_mesh: those
  that change the mesh alone come first.
  """
  later = list(REMAT)[list(REMAT).index(start.remat) :]
  found = {}
  for halvings, (fsdp, model), remat in itertools.product(
    range(8), _meshes(devices), later
  ):
    choice = _changed(start, devices, halvings, fsdp, model, remat)
    if choice is None or choice == start:
      continue
    if fsdp >= start.fsdp and model >= start.model:
      last = not open_mesh or but_for_mesh(choice) != but_for_mesh(start)
      found[choice] = last, _cost(start, choice)
  return sorted(found, key=found.get)


def but_for_mesh(choice: Choice) -> tuple:
  """What a choice says besides its mesh."""
  return choice.batch_size, choice.accumulation, choice.remat


def _meshes(devices: int) -> list[tuple[int, int]]:
  """(fsdp, model) sizes: powers of two that divide the devices."""
  sizes = [2**i for i in range(devices.bit_length())]
  return [
    (fsdp, model)
    for fsdp, model in itertools.product(sizes, sizes)
    if devices % (fsdp * model) == 0
  ]


def _changed(start, devices, halvings, fsdp, model, remat) -> Choice | None:
  """None where the micro-batch does not divide that far."""
  data = devices // (fsdp * model)
  each, rest = divmod(start.each, 2**halvings)
  if rest or not each:
    return None
  batch = each * data * fsdp
  pairs = start.batch_size * start.accumulation
  if pairs % batch:
    return None
  return Choice(data, fsdp, model, batch, pairs // batch, remat)


def _cost(start: Choice, choice: Choice) -> float:
  """Rank of a change: a guess at the step's time in units of before."""

  def doublings(now, before):
    return (now // before).bit_length() - 1

  return (
    REMAT[choice.remat]
    / REMAT[start.remat]
    * (1 + HALVED * doublings(start.each, choice.each))
    * (1 + SPREAD * doublings(choice.fsdp, start.fsdp))
    * (1 + SPLIT * doublings(choice.model, start.model))
  )


def needs_no_less(choice: Choice, failed: Choice) -> bool:
  """Whether a choice cannot fit because one that needs no more did not."""
  order = list(REMAT)
  return (
    choice.each >= failed.each
    and choice.fsdp <= failed.fsdp
    and choice.model <= failed.model
    and order.index(choice.remat) <= order.index(failed.remat)
  )


def grid(start: Choice, devices: int, most_each: int) -> list[Choice]:
  """Meshes without split heads, by 1, 2, 4 ... pairs a device."""
  pairs = start.batch_size * start.accumulation
  made = []
  for fsdp, model in _meshes(devices):
    if model != start.model:
      continue
    data, each = devices // (fsdp * model), 1
    while each <= most_each:
      batch = each * data * fsdp
      steps = max(1, -(-pairs // batch))
      made.append(Choice(data, fsdp, model, batch, steps, start.remat))
      each *= 2
  return made
