"""From a config's `model` and `lora` sections to a model on a mesh."""

import jax
import jax.numpy as jnp

from synpo_jax.models import attention as attentions
from synpo_jax.models import captioner, config, initial, int8, sharding
from synpo_jax.weights import config_reading, folders

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def make_model(
  *,
  checkpoint,
  arch,
  kept_ratio,
  dtype,
  base,
  remat,
  attention,
  adapter,
  mesh,
) -> captioner.Captioner:
  """The module that a `model` section describes; no weights are read.

  checkpoint: folder whose configs are read, or "" for the sizes in `arch`.
  kept_ratio: share of visual tokens to keep, None for the checkpoint's own.
  base: "float" (in dtype), or "int8" for the decoder's frozen linear layers.
  attention: "auto" takes what suits the devices of the mesh.
  adapter: a `lora` section (rank 0: no adapter).
  """
  if dtype not in DTYPES:
    raise ValueError(f"model.dtype={dtype}: choose float32 or bfloat16")
  if base not in int8.BASES:
    raise ValueError(f"model.base={base}: choose {' or '.join(int8.BASES)}")
  if not checkpoint and not arch:
    raise ValueError("set model.checkpoint to a folder (arch holds no sizes)")
  sizes = config_reading.captioner_config(checkpoint or arch)
  if kept_ratio is not None and sizes.tower is not None:
    sizes = sizes.with_kept_ratio(kept_ratio)
  if base == "int8":
    sizes = sizes.with_int8_base()
  adapter = config.LoraConfig(**adapter) if adapter["rank"] else None
  dtype = DTYPES[dtype]
  backend = attentions.on_mesh(attention, mesh, sizes.decoder, dtype)
  return captioner.Captioner(sizes, adapter, dtype, remat, backend)


def load_variables(model, checkpoint, mesh, seed) -> dict:
  """`params` (read, or drawn where checkpoint is "") and a fresh `lora`.

  Every leaf goes straight to its place on the mesh. The frozen weights have
  the model's dtype (or are int8), the adapter is float32.
  """
  places = sharding.tree_shardings(captioner.shapes(model), mesh)
  if checkpoint:
    params = folders.load(
      checkpoint,
      model.config,
      dtype=model.dtype,
      shardings=places["params"],
    )
  else:
    params = initial.params(
      model, seed, dtype=model.dtype, shardings=places["params"]
    )
  variables = {"params": params}
  if model.lora is not None:
    variables["lora"] = initial.adapter(model, seed, places["lora"])
  return variables


def abstract_variables(model, mesh) -> dict:
  """What `load_variables` gives, as shapes with shardings; nothing is read."""

  def place(path, leaf, sharding):
    whole = leaf.dtype == jnp.int8 or path[-1].key == "kernel_scale"
    keeps = whole or path[0].key == "lora"
    dtype = leaf.dtype if keeps else model.dtype
    return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)

  shapes = captioner.shapes(model)
  places = sharding.tree_shardings(shapes, mesh)
  return jax.tree.map_with_path(place, shapes, places)


def describe(variables) -> str:
  """Parameter counts in words."""
  counts = {
    name: sum(leaf.size for leaf in jax.tree.leaves(tree))
    for name, tree in variables.items()
  }
  return ", ".join(f"{count:,} in {name}" for name, count in counts.items())
