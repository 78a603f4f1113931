"""Weights in and out: published folders and Flax ports <-> our tree.

A large stack of layers is never put together on the host: each published
tensor is read, cast, and put in its place before the next one is opened.
"""

import functools
import json
import math
import pathlib
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from synpo_jax.models import int8
from synpo_jax.models.captioner import Captioner, shapes
from synpo_jax.models.config import CaptionerConfig
from synpo_jax.runtime import shipped
from synpo_jax.runtime.terminal import below
from synpo_jax.weights import (
  config_writing,
  flax_files,
  safetensors_files,
  stores,
  tensor_names,
  weight_files,
)
from synpo_jax.weights.stores import Store

SMALL = 2**26  # bytes; smaller stacks are put together on the host


def load(
  folder: str | pathlib.Path, config: CaptionerConfig, *, dtype, shardings=None
) -> dict:
  """`params` of a published folder, every leaf cast to `dtype`.

  The folder holds a language model (safetensors or Flax msgpack, sharded or
  not) and, for a captioner, `visual_encoder/` and `projector/` beside it; or
  a whole video language model (`multimodal_configs.FAMILIES`). config: what
  `captioner_config` read there; with an int8 base the decoder's linear layers
  are rounded, a tensor at a time. `shardings` is a tree like params. Raises
  ValueError listing every missing, surplus and misshapen tensor.
  """
  folder = shipped.find(folder)
  parts = sorted({leaf.part for leaf in tensor_names.leaves(config)})
  rename = partial(tensor_names.published, config=config)
  opened = {
    part: stores.renamed(open_folder(folder / part), rename) for part in parts
  }
  return _assemble(config, opened, dtype, shardings)


def open_folder(folder: pathlib.Path) -> Store:
  """The weights of one folder, safetensors before Flax msgpack.

  Raises FileNotFoundError naming the files looked for, and ValueError for a
  folder that has pickled weights only.
  """
  for files in (safetensors_files, flax_files):
    if weight_files.listed(folder, files.NAME):
      return files.open_folder(folder)
  if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
    raise ValueError(
      f"{folder} has pickled weights only, which can run code when read; "
      "convert them where you trust them: load the model with transformers "
      "and call save_pretrained(folder, safe_serialization=True)"
    )
  raise FileNotFoundError(
    f"{folder}: no model.safetensors, model.safetensors.index.json or "
    "flax_model.msgpack there"
  )


def from_flax(
  config, llm, *, dtype, tower=None, projector=None, shardings=None
):
  """params from `FlaxPreTrainedModel.params` trees.

  `llm` is the tree of a causal language model, `tower` that of a vision
  model, `projector` {"model": {"0": {"kernel", "bias"}, "2": ...}}.
  """
  trees = {"": llm, "visual_encoder": tower, "projector": projector}
  opened = {
    part: stores.in_memory(tree, part or "language model")
    for part, tree in trees.items()
    if tree is not None
  }
  return _assemble(config, opened, dtype, shardings)


def _assemble(config, opened, dtype, shardings):
  wanted = traverse_util.flatten_dict(
    shapes(Captioner(config))["params"], sep="/"
  )
  leaves = tensor_names.leaves(config)
  _check(config, leaves, wanted, opened)
  for store in opened.values():
    _check_head(config, store)
  if shardings is None:
    shardings = dict.fromkeys(wanted, _one_device())
  else:
    shardings = traverse_util.flatten_dict(shardings, sep="/")
  params = {}
  for leaf in leaves:
    shape, store = wanted[leaf.path].shape, opened[leaf.part]
    if wanted[leaf.path].dtype == jnp.int8:
      paths = leaf.path, f"{leaf.path}_scale"
      both = tuple(shardings[path] for path in paths)
      params |= zip(paths, _place_int8(leaf, store, shape, both), strict=True)
    else:
      sharding = shardings[leaf.path]
      params[leaf.path] = _place(leaf, store, shape, dtype, sharding)
  return traverse_util.unflatten_dict(params, sep="/")


def _one_device():
  return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def _check(config, leaves, wanted, opened) -> None:
  """Compares names and shapes before anything is read."""
  faults, surplus, known = [], [], {part: set() for part in opened}
  for leaf in leaves:
    if leaf.part not in opened:
      raise ValueError(f"no weights given for {leaf.part}")
    store = opened[leaf.part]
    shape = leaf.published_shape(wanted[leaf.path].shape, store.flax)
    for name in leaf.names(store.flax):
      known[leaf.part].add(name)
      if name not in store.shapes:
        faults.append(f"missing: {name} {shape}")
      elif store.shapes[name] != shape:
        faults.append(f"shape: {name} is {store.shapes[name]}, not {shape}")
  unused = "|".join((*tensor_names.UNUSED, tensor_names.above_tap(config)))
  if config.decoder.tied:
    unused += r"|(language_model\.)?lm_head\..*"
  for part, store in opened.items():
    surplus += [
      f"surplus: {name} {store.shapes[name]}"
      for name in sorted(set(store.shapes) - known[part])
      if not re.fullmatch(unused, name)
    ]
  if faults or surplus:
    where = ", ".join(store.place for store in opened.values())
    head = f"{where}: the weights do not fit config.json"
    raise ValueError(below(head, faults, surplus))


def _check_head(config, store) -> None:
  """Raises ValueError for a head of its own where the config has none."""
  if store.flax:
    return  # the ports write one that was drawn and is never read
  for name, head in store.tensors.items():
    table = tensor_names.tied(name, config)
    if table != name and not stores.equal(head, store.tensors[table]):
      raise ValueError(
        f"{head.file}: {name} differs from {table}, but config.json ties them "
        "(tie_word_embeddings is true, or is so where nothing is said); set "
        "it to false to use this head, or delete the tensor to go without it"
      )


def _tensors(leaf, store, dtype):
  """The published tensors of a leaf one by one, their axes in our order.

  Raises ValueError for one that does not fit into a dtype.
  """
  for name in leaf.names(store.flax):
    tensor = store.read(name)
    stores.check_fits(tensor, dtype, f"{store.place}: {name}")
    yield leaf.from_published(tensor, store.flax)


def _place(leaf, store, shape, dtype, sharding):
  """Reads a leaf tensor by tensor into its place on the devices."""
  tensors = _tensors(leaf, store, dtype)
  if not leaf.stacked:
    return _put(next(tensors), dtype, sharding)
  if math.prod(shape) * jnp.dtype(dtype).itemsize < SMALL:
    stack = np.stack([np.asarray(tensor, dtype) for tensor in tensors])
    return _put(stack, dtype, sharding)
  set_layer = _layer_setter(sharding)
  stack = _zeros(shape, dtype, sharding)
  for i, tensor in enumerate(tensors):
    layer = _put(tensor, dtype, _without_layers(sharding))
    stack = set_layer(stack, layer, i)
  return stack


def _place_int8(leaf, store, shape, shardings):
  """As `_place`, for a stack of kernels: (q, scale) as `int8` says."""
  set_layer = _int8_setter(shardings)
  stack = _zeros(shape, jnp.int8, shardings[0])
  scales = _zeros((shape[0], shape[2]), jnp.float32, shardings[1])
  for i, tensor in enumerate(_tensors(leaf, store, jnp.float32)):
    dtype = jax.dtypes.canonicalize_dtype(tensor.dtype)
    layer = _put(tensor, dtype, _without_layers(shardings[0]))
    # One at a time: floats that wait to be rounded would pile up.
    stack, scales = jax.block_until_ready(set_layer(stack, scales, layer, i))
  return stack, scales


@functools.cache
def _int8_setter(shardings):
  """Jitted (stack, scales, kernel, i) -> (stack, scales), in place."""
  jit = partial(jax.jit, donate_argnums=(0, 1), out_shardings=shardings)
  return jit(int8.set_layer)


def _put(tensor, dtype, sharding):
  """The devices' own slices of a host tensor, cast on the way."""
  return jax.make_array_from_callback(
    tensor.shape, sharding, lambda i: np.asarray(tensor[i], dtype)
  )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _zeros(shape, dtype, sharding):
  return jax.lax.with_sharding_constraint(jnp.zeros(shape, dtype), sharding)


@functools.cache
def _layer_setter(sharding):
  """Jitted (stack, layer, i) -> stack, in place.

  On bits, because XLA's CPU backend widens a bfloat16 array it updates.
  """

  def put(stack, layer, i):
    width = {2: jnp.uint16, 4: jnp.uint32}[stack.dtype.itemsize]
    bits = partial(jax.lax.bitcast_convert_type, new_dtype=width)
    out = jax.lax.dynamic_update_index_in_dim(bits(stack), bits(layer), i, 0)
    return jax.lax.bitcast_convert_type(out, stack.dtype)

  return jax.jit(put, donate_argnums=0, out_shardings=sharding)


def _without_layers(sharding):
  if not isinstance(sharding, jax.sharding.NamedSharding):
    return sharding
  spec = jax.sharding.PartitionSpec(*sharding.spec[1:])
  return jax.sharding.NamedSharding(sharding.mesh, spec)


def save(folder, config: CaptionerConfig, params) -> None:
  """Writes `params` as a published folder that `load` and torch can read.

  Tensors keep their dtype (one per part) and are fetched one at a time.
  Tower layers above the tap do not exist here and are not written. Raises
  ValueError for an int8 base, which published files do not know.
  """
  if config.decoder.int8:
    raise ValueError("int8 weights are not written: load them as floats")
  folder = pathlib.Path(folder)
  flat = traverse_util.flatten_dict(params, sep="/")
  leaves = tensor_names.leaves(config)
  files = config_writing.config_files(config)
  for part in sorted({leaf.part for leaf in leaves}):
    (folder / part).mkdir(parents=True, exist_ok=True)
    mine = [leaf for leaf in leaves if leaf.part == part]
    _save_part(folder / part / "model.safetensors", mine, flat)
  for name, content in files.items():
    (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def _save_part(file, leaves, flat) -> None:
  plan = [
    (name, leaf, i if leaf.stacked else ...)
    for leaf in leaves
    for i, name in enumerate(leaf.names(flax=False))
  ]
  table = {
    name: leaf.published_shape(flat[leaf.path].shape, flax=False)
    for name, leaf, _ in plan
  }
  tensors = (
    leaf.to_torch(np.asarray(flat[leaf.path][i])) for _, leaf, i in plan
  )
  dtype = flat[leaves[0].path].dtype
  safetensors_files.write(file, table, dtype, tensors)
