"""What generation needs of a device's memory, asked of the compiler first."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import NamedSharding

from synpo_jax.generation import engine, pages
from synpo_jax.generation.decode_loop import Choice
from synpo_jax.generation.prompt_batches import rung
from synpo_jax.generation.schedule import Lengths, Room
from synpo_jax.runtime.compiled_memory import added_bytes

GIB = 2**30


class Need(NamedTuple):
  """Bytes of a device. peaks: while a program runs, with all that is held."""

  weights: int
  prompts: int
  own: int
  peaks: dict[str, int]

  @property
  def peak(self) -> int:
    """Of the program that needs most; what is always held, if none is known."""
    held = self.weights + self.prompts + self.own
    return max([held, *self.peaks.values()])


class Plan(NamedTuple):
  """What is compiled for. frames: of the longest clip, 0 for none."""

  model: object
  variables: dict  # arrays, or shapes with shardings
  mesh: jax.sharding.Mesh
  choice: Choice
  steps: int | tuple[int, ...]  # as `prompt_batches.rung` takes them
  frames: int
  quantised: bool


def need(
  plan: Plan, room: Room, most: Lengths, usable: int | float | None
) -> Need:
  """What the largest programs need; none is compiled where that is hopeless.

  usable: bytes of a device, None for no end. Compilers that refuse a program
  as too large are believed: it counts as all that is usable, and one more.
  """
  prompts, own = pools(plan, room)
  sizes = [held(tree) for tree in (plan.variables, prompts, own)]
  at_rest = Need(*sizes, {})
  if usable is not None and at_rest.peak > usable:
    return at_rest
  peaks = {
    name: at_rest.peak + _added(lower, usable)
    for name, lower in programs(plan, room, most, prompts, own).items()
  }
  return at_rest._replace(peaks=peaks)


def _added(lower: Callable, usable) -> int:
  try:
    return added_bytes(lower().compile())
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error) or usable is None:
      raise
    return int(usable) + 1


def programs(plan: Plan, room, most: Lengths, prompts, own) -> dict:
  """{name: () -> lowered} of the programs that take most."""
  model, variables, b = plan.model, plan.variables, room.reads
  array = partial(_shape, plan.mesh)
  length = rung(most.prompt, plan.steps)
  length = -(-length // room.page) * room.page
  N, S = room.width(room.rows), room.streams
  rows = jax.tree.map(
    lambda x: array(x.shape, x.dtype), engine.arrays([], room, N)
  )
  readers = pages.Readers(
    array((room.prompt_pages, room.candidates), spread=False),
    array((room.own_pages, 1), spread=False),
  )
  visual = None
  out = {}
  if plan.frames:
    count = model.config.room(plan.frames)
    width = model.config.visual_width
    visual = (array((count, width), model.dtype, spread=False),) * b
    size = model.config.largest(plan.frames)
    clips = array((b, plan.frames, *size, 3), jnp.uint8)
    out["look"] = partial(pages.look.lower, model, variables, clips, count)
  out["read prompts"] = partial(
    pages.read_prompts.lower,
    model,
    variables,
    prompts,
    array((b, length)),
    array((b, length), bool),
    visual,
    array((b, length // room.page), spread=False),
  )
  if most.tail:
    tails = _tails(array, room, most)
    out["read tails"] = partial(
      pages.read_tails.lower, model, variables, prompts, own, tails
    )
  out["fill"] = partial(
    pages.fill.lower,
    model,
    variables,
    prompts,
    own,
    readers,
    rows,
    array((N * S, 1), spread=False),
    room.block,
    plan.choice,
  )
  return out


def _tails(array, room: Room, most: Lengths) -> pages.Tails:
  b, C = room.reads * room.streams, room.candidates
  n, Q = engine.tail_shape(most.prompt, most.tail, room)
  whole = partial(array, spread=False)
  return pages.Tails(
    whole((b, n)),
    whole((b, C, Q)),
    whole((b, C, Q), bool),
    whole((b,)),
    whole((b, C, Q // room.block)),
  )


def pools(plan: Plan, room: Room):
  """Both pools as shapes in their places."""
  sizes = (room.prompt_pages, room.page), (room.own_pages, room.block)
  return [_pool(plan, count, size) for count, size in sizes]


def _pool(plan: Plan, count: int, size: int):
  make = partial(pages.empty, plan.model, count, size, plan.quantised)
  shapes = jax.eval_shape(make)
  where = engine.places(plan.model, plan.mesh, count, plan.quantised)
  return jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    shapes,
    where,
  )


def _shape(mesh, shape, dtype=jnp.int32, spread=True):
  """An array's shape as the engine hands it over, its rows spread or not."""
  where = None
  if spread and mesh.size > 1:
    where = NamedSharding(mesh, engine.BATCH)
  return jax.ShapeDtypeStruct(shape, dtype, sharding=where)


def held(tree) -> int:
  """Bytes that a device holds of arrays, or of shapes with shardings."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape))
    * np.dtype(leaf.dtype).itemsize
    for leaf in jax.tree.leaves(tree)
  )


def usable(mesh) -> int | None:
  """Bytes that a program may fill on a device; None where none is told."""
  stats = mesh.local_devices[0].memory_stats()
  return None if not stats else stats.get("bytes_limit")


def fitting(
  plan: Plan,
  most: Lengths,
  make: Callable[[int], Room],
  batch_size: int,
  limit: int | None,
) -> Room:
  """Room for as many videos at once as fit, `batch_size` at most.

  make: the room of a number of videos. limit: bytes of a device, None for no
  look at all, as on CPUs. Each number that does not fit is halved, which is
  said. Raises ValueError where not even one fits.
  """
  while True:
    room = make(batch_size)
    if limit is None:
      return room
    found = need(plan, room, most, limit)
    if found.peak <= limit:
      return room
    told = f"{found.peak / GIB:.2f} of {limit / GIB:.2f} GiB of a device"
    if batch_size == 1:
      raise ValueError(
        f"the captions of one video at a time need {told}; set "
        "placing.mesh.model (or fsdp) so that several devices share the "
        "weights, or model.dtype=bfloat16"
      )
    logging.warning(
      "captions of %d videos at once need %s; %d at once instead",
      *(batch_size, told, batch_size // 2),
    )
    batch_size //= 2
