"""Gradients that the parts of `data` add up once, not once a micro-batch.

Left to the compiler, a loop over micro-batches sums the gradient of what is
copied over `data` in each of its turns. Within `summed` that axis is split by
hand (`jax.shard_map`), the others as ever: a part has rows of its own and sums
of its own until the loop is done.
"""

from collections.abc import Callable

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int

from synpo_jax.models import sharding

AXIS = "data"


def summed(function: Callable, mesh, places) -> Callable:
  """(trained, frozen, rows [A, B, ...], key) -> sums, added up once.

  function: the same for a part's rows [A, B / data, ...]. places: specs of
  what it returns, or of whole branches of that; where one names `data`, a part
  keeps its piece of the sum.
  """
  where = jax.tree.map(lambda spec: of_axes(spec, (AXIS,)), places)

  def part(trained, frozen, rows, key):
    own = function(trained, frozen, rows, key)
    return jax.tree.map(_add, own, jax.tree.broadcast(where, own))

  return jax.shard_map(
    part,
    mesh=mesh,
    axis_names={AXIS},
    in_specs=(P(), P(), P(None, AXIS), P()),
    out_specs=where,
    check_vma=False,  # kernels do not say what varies over the mesh
  )


def _add(leaf, spec):
  if AXIS not in spec:
    return jax.lax.psum(leaf, AXIS)
  place = tuple(spec).index(AXIS)
  return jax.lax.psum_scatter(leaf, AXIS, scatter_dimension=place, tiled=True)


def number() -> Int[Array, ""] | int:
  """Of the part that runs, within `summed`; 0 outside."""
  return jax.lax.axis_index(AXIS) if AXIS in _by_hand() else 0


def rest(mesh):
  """The mesh, and those of its axes that are still to be split."""
  if not _by_hand():
    return mesh, sharding.AXES
  left = tuple(axis for axis in sharding.AXES if axis not in _by_hand())
  return jax.sharding.get_abstract_mesh(), left


def still(place: NamedSharding) -> NamedSharding:
  """What a sharding asks of the axes that are still to be split."""
  mesh, axes = rest(place.mesh)
  return NamedSharding(mesh, of_axes(place.spec, axes))


def of_axes(spec: P, axes) -> P:
  """What a spec says about some axes of the mesh."""
  kept = []
  for entry in spec:
    names = (entry,) if isinstance(entry, str) else entry or ()
    names = tuple(name for name in names if name in axes)
    kept.append(names[0] if len(names) == 1 else names or None)
  return P(*kept)


def _by_hand() -> tuple[str, ...]:
  return jax.sharding.get_abstract_mesh().manual_axes
