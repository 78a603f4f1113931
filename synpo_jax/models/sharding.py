"""The mesh, and the table that says where every array lives.

Axes: `data` copies the model, and splits the batch and what the optimiser
remembers; `fsdp` splits the batch and the weights; `model` splits heads, hidden
units and vocabulary.
"""

import functools
import math
import re

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from synpo_jax.data.batch import Batch

AXES = ("data", "fsdp", "model")

# Has a platform's compiler gather a weight whole before its product. TPUs'
# else takes it window by window, each while the next one travels, with the
# partial product in memory and rounded to bfloat16.
COMPILER = {"tpu": {"xla_jf_spmd_threshold_for_windowed_einsum_mib": 10**6}}

# Full match, first match wins; a leaf that no rule covers is an error.
RULES = (
  (r"(params|lora)/(tower|projector)/.*", P()),
  (r"params/decoder/embed/embedding", P("model", "fsdp")),
  (r"params/decoder/head/kernel", P("fsdp", "model")),
  (
    r"params/decoder/layers/(attn|mlp)/(q|k|v|gate|up)/kernel",
    P(None, "fsdp", "model"),
  ),
  (
    r"params/decoder/layers/(attn|mlp)/(q|k|v|gate|up)/(bias|kernel_scale)",
    P(None, "model"),
  ),
  (
    r"params/decoder/layers/(attn|mlp)/(o|down)/kernel",
    P(None, "model", "fsdp"),
  ),
  (r"params/decoder/layers/(attn|mlp)/(o|down)/(bias|kernel_scale)", P()),
  (r"params/decoder/(.*/)?\w*norm/scale", P()),
  (r"lora/decoder/layers/(attn|mlp)/(q|k|v|gate|up)/a", P(None, "fsdp")),
  (
    r"lora/decoder/layers/(attn|mlp)/(q|k|v|gate|up)/b",
    P(None, None, ("model", "fsdp")),
  ),
  (r"lora/decoder/layers/(attn|mlp)/(o|down)/a", P(None, ("model", "fsdp"))),
  (r"lora/decoder/layers/(attn|mlp)/(o|down)/b", P(None, None, "fsdp")),
)


def make_mesh(*, data, fsdp, model, devices=None) -> Mesh:
  """A (data, fsdp, model) mesh; one axis may be -1 and takes what is left.

  Raises ValueError for other sizes below 1, and when the sizes do not multiply
  to the devices at hand.
  """
  devices = jax.devices() if devices is None else devices
  sizes = [data, fsdp, model]
  for axis, size in zip(AXES, sizes, strict=True):
    if size < 1 and size != -1:
      raise ValueError(
        f"mesh.{axis}={size}: give a number of devices, or -1 for those left"
      )
  if sizes.count(-1) > 1:
    raise ValueError(f"mesh {dict(zip(AXES, sizes, strict=True))}: one -1 only")
  known = int(np.prod([size for size in sizes if size != -1]))
  sizes = [len(devices) // known if size == -1 else size for size in sizes]
  if np.prod(sizes) != len(devices):
    raise ValueError(
      f"mesh {dict(zip(AXES, sizes, strict=True))} needs "
      f"{int(np.prod(sizes))} devices, {len(devices)} are at hand; "
      "set mesh.data, mesh.fsdp and mesh.model"
    )
  return jax.make_mesh(
    tuple(sizes), AXES, axis_types=(AxisType.Auto,) * 3, devices=devices
  )


def row_shards(mesh) -> int:
  """Into how many parts a mesh splits the rows of a micro-batch."""
  return mesh.shape["data"] * mesh.shape["fsdp"]


def check_batch(mesh, batch_size):
  """Raises ValueError unless the mesh splits a batch of so many pairs.

  A row is read by one process, so the devices that share one are its own.
  """
  rows = row_shards(mesh)
  for devices in mesh.devices.reshape(rows, -1):
    if len({device.process_index for device in devices}) > 1:
      raise ValueError(
        f"mesh.model={len(devices)} spans processes, each of which reads rows "
        "of its own; lower it to a divisor of the devices of one process"
      )
  if batch_size < 1:
    raise ValueError(f"data.batch_size={batch_size}: give a number of pairs")
  if batch_size % rows:
    raise ValueError(
      f"data.batch_size={batch_size} does not divide over mesh data x fsdp = "
      f"{rows}; make it a multiple, or set mesh.model"
    )


def compiler_options(mesh, batch_size) -> dict | None:
  """What the compiler is told about a step on so many pairs at once.

  With one pair a device, windows of a weight hide its way over the links;
  with more, their partial products no longer fit beside the cores.
  """
  platform = mesh.devices.flat[0].platform
  return COMPILER.get(platform) if batch_size > row_shards(mesh) else None


def path_name(path) -> str:
  """A tree path as `params/decoder/embed/embedding`."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def tree_shardings(tree, mesh, rules=RULES):
  """A NamedSharding for each array (or shape) of `{params, lora}`.

  Raises ValueError for a leaf without a rule, and for one whose axes the mesh
  does not divide.
  """

  def pick(path, leaf):
    name = path_name(path)
    for pattern, spec in rules:
      if re.fullmatch(pattern, name):
        _check_divides(name, leaf.shape, spec, mesh)
        return NamedSharding(mesh, spec)
    raise ValueError(f"no sharding rule covers {name} {leaf.shape}")

  return jax.tree.map_with_path(pick, tree)


def _check_divides(name, shape, spec, mesh):
  for size, axes in zip(shape, spec, strict=False):
    axes = (axes,) if isinstance(axes, str) else axes or ()
    parts = math.prod(mesh.shape[axis] for axis in axes)
    if size % parts:
      raise ValueError(
        f"{name} {shape}: {size} does not divide over mesh axis "
        f"{' x '.join(axes)}={parts}; choose another mesh"
      )


def over_data(place: NamedSharding, shape) -> NamedSharding:
  """The same, and split over `data` in the first whole dimension it divides.

  As it is where there is none.
  """
  parts = place.mesh.shape["data"]
  spec = [*place.spec, *[None] * (len(shape) - len(place.spec))]
  for axis, size in enumerate(shape):
    if parts > 1 and spec[axis] is None and size % parts == 0:
      spec[axis] = "data"
      return NamedSharding(place.mesh, P(*spec))
  return place


def optimiser_shardings(opt, trained_shardings, mesh):
  """Moments lie where their weights lie, and are split over `data`, too.

  Counters are everywhere.
  """
  by_name = {
    path_name(path): sharding
    for path, sharding in jax.tree.leaves_with_path(trained_shardings)
  }

  def pick(path, leaf):
    name = path_name(path)
    for weight, sharding in by_name.items():
      if name.endswith("/" + weight):
        return over_data(sharding, leaf.shape)
    if leaf.ndim:
      raise ValueError(f"optimiser state {name} {leaf.shape} has no weight")
    return replicated(mesh)

  return jax.tree.map_with_path(pick, opt)


def replicated(mesh) -> NamedSharding:
  """Every device holds the whole array."""
  return NamedSharding(mesh, P())


def batch_sharding(mesh) -> NamedSharding:
  """[A, B, ...] with the pairs split over `data` and `fsdp`."""
  return NamedSharding(mesh, P(None, ("data", "fsdp")))


def rows_sharding(mesh) -> NamedSharding:
  """[B, ...] with the rows split over `data` and `fsdp`."""
  return NamedSharding(mesh, P(("data", "fsdp")))


def head_sharding(mesh) -> NamedSharding:
  """The head's kernel [D, V] while it scores: columns over `model` only."""
  return NamedSharding(mesh, P(None, "model"))


def put_batch(batch: Batch, mesh) -> Batch:
  """This process's rows of a batch, made part of the global arrays."""
  return _put(batch, batch_sharding(mesh))


def put_rows(rows, mesh):
  """This process's rows [b, ...] of arrays, made part of global ones [B, ...].

  Which row of B one becomes is the mesh's choice, alike for all arrays.
  """
  return _put(rows, rows_sharding(mesh))


def _put(tree, sharding):
  make = functools.partial(jax.make_array_from_process_local_data, sharding)
  return jax.tree.map(make, tree)


def whole(array) -> np.ndarray:
  """All of an array, on each process; those that hold parts all call it."""
  if array.is_fully_addressable or array.is_fully_replicated:
    return np.asarray(array)
  return multihost_utils.process_allgather(array, tiled=True)
