"""From a config's sections to a captioner in its place on a mesh.

Each caller takes the steps that it needs: the module, its weights, an adapter
that learns or one that is merged in.
"""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike

from synpo_jax.models import attention as attentions
from synpo_jax.models import (
  captioner,
  config,
  dropout,
  initial,
  int8,
  sharding,
)
from synpo_jax.weights import adapters, config_reading, folders, learned

DTYPES = {
  "float32": jnp.float32,
  "bfloat16": jnp.bfloat16,
  "float16": jnp.float16,
}
# Small gradients vanish in float16 unless the loss is scaled up; it is not.
TRAINABLE = ("float32", "bfloat16")


def choose_dtype(name: str, allowed: tuple[str, ...] = tuple(DTYPES)):
  """The dtype of weights and computation that a config names.

  Raises ValueError for one that is not allowed.
  """
  if name not in allowed:
    raise ValueError(
      f"model.dtype={name!r}: choose one of {', '.join(allowed)}"
    )
  return DTYPES[name]


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
  """The module that a training config's `model` section describes.

  checkpoint: folder whose configs are read, or "" for the sizes in `arch`.
  kept_ratio: share of visual tokens to keep, None for the checkpoint's own.
  base: "float" (in dtype), or "int8" for the decoder's frozen linear layers.
  attention: "auto" takes what suits the devices of the mesh.
  adapter: a `lora` section (rank 0: no adapter).
  """
  dtype = choose_dtype(dtype, TRAINABLE)
  if base not in int8.BASES:
    raise ValueError(f"model.base={base}: choose {' or '.join(int8.BASES)}")
  if not checkpoint and not arch:
    raise ValueError("set model.checkpoint to a folder (arch holds no sizes)")
  sizes = config_reading.captioner_config(checkpoint or arch)
  if kept_ratio is not None and sizes.tower is not None:
    sizes = sizes.with_kept_ratio(kept_ratio)
  if base == "int8":
    sizes = sizes.with_int8_base()
  lora = config.LoraConfig(**adapter) if adapter["rank"] else None
  if lora is not None:
    dropout.kept(lora.dropout)  # or says why not
  elif set(adapter.get("where", ())) - {"decoder"}:
    raise ValueError(
      f"lora.where={adapter['where']}, but lora.rank=0 makes no adapter; give "
      "a rank"
    )
  return on_mesh(sizes, mesh, dtype, attention, lora, remat)


def on_mesh(
  sizes: config.CaptionerConfig,
  mesh: Mesh,
  dtype: DTypeLike,
  attention: str,
  lora: config.LoraConfig | None = None,
  remat: str = "none",
) -> captioner.Captioner:
  """The module that computes on a mesh; `attention` as `attention.choose`.

  Raises ValueError for a dtype that the mesh's devices cannot compute in, and
  for an adapter on what the model does not have.
  """
  cpu = mesh.devices.flat[0].platform == "cpu"
  if cpu and sizes.tower is not None and jnp.dtype(dtype) == jnp.float16:
    raise ValueError(
      "model.dtype=float16: JAX has no attention of a vision tower in it on "
      "CPUs; set model.dtype to bfloat16 or float32"
    )
  backend = attentions.on_mesh(attention, mesh, sizes.decoder, dtype)
  how = dict(dtype=dtype, remat=remat, attention=backend)
  return captioner.make(sizes, lora, **how)


def load_params(model: captioner.Captioner, checkpoint, mesh: Mesh) -> dict:
  """A folder's `params` in the model's dtype, each leaf put in its place."""
  return folders.load(
    checkpoint,
    model.config,
    dtype=model.dtype,
    shardings=_shardings(model, mesh)["params"],
  )


def merge_adapter(
  params: dict, folder, model: captioner.Captioner, mesh: Mesh
) -> dict:
  """`params` with what a run or a PEFT folder holds added, leaf by leaf."""
  adapter = adapters.read(folder, model.config)
  return learned.apply(params, adapter, _shardings(model, mesh)["params"])


def load_variables(
  model: captioner.Captioner, checkpoint: str, mesh: Mesh, seed: int
) -> dict:
  """`params` (read, or drawn where checkpoint is "") and a fresh `lora`.

  Every leaf goes straight to its place on the mesh. The frozen weights have
  the model's dtype (or are int8), the adapter is float32.
  """
  if checkpoint:
    params = load_params(model, checkpoint, mesh)
  else:
    params = initial.params(
      model,
      seed,
      dtype=model.dtype,
      shardings=_shardings(model, mesh)["params"],
    )
  if model.lora is None:
    return {"params": params}
  return {"params": params, "lora": fresh_adapter(model, mesh, seed)}


def fresh_adapter(model: captioner.Captioner, mesh: Mesh, seed: int) -> dict:
  """A `lora` tree on the mesh that changes nothing yet."""
  return initial.adapter(model, seed, _shardings(model, mesh)["lora"])


def _shardings(model: captioner.Captioner, mesh: Mesh) -> dict:
  return sharding.tree_shardings(captioner.shapes(model), mesh)


def abstract_variables(model, mesh) -> dict:
  """What `load_variables` gives, as shapes with shardings; nothing is read."""

  def place(path, leaf, sharding):
    whole = leaf.dtype == jnp.int8 or path[-1].key == "kernel_scale"
    keeps = whole or path[0].key == "lora"
    dtype = leaf.dtype if keeps else model.dtype
    return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)

  shapes = captioner.shapes(model)
  return jax.tree.map_with_path(place, shapes, _shardings(model, mesh))


def describe(variables) -> str:
  """Parameter counts in words."""
  counts = {
    name: sum(leaf.size for leaf in jax.tree.leaves(tree))
    for name, tree in variables.items()
  }
  return ", ".join(f"{count:,} in {name}" for name, count in counts.items())
