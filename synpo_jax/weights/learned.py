"""What training changed, and how it is put on the weights."""

from typing import NamedTuple

import jax

from synpo_jax.models import lora as lora_math
from synpo_jax.models.config import LoraConfig


class Learned(NamedTuple):
  """What training changed.

  lora: a tree like variables["lora"], or {}; config: its rank and alpha, or
  None; params: whole weights that were trained, a tree like part of
  variables["params"], or {}.
  """

  lora: dict
  config: LoraConfig | None
  params: dict


def apply(params: dict, learned: Learned, shardings: dict) -> dict:
  """`params` with what was learned merged in, leaf by leaf in its place.

  shardings: a tree like params. Raises ValueError where shapes do not fit.
  """
  params = _replace(params, learned.params, shardings, "")
  if not learned.lora:
    return params

  def merge(weights, tree):
    return lora_math.merge(weights, tree, learned.config)

  for part, tree in learned.lora.items():
    _check_shapes(params, {part: tree}, "")
    compiled = jax.jit(merge, donate_argnums=0, out_shardings=shardings[part])
    params = {**params, part: compiled(params[part], tree)}
  return params


def _check_shapes(params, tree, path):
  for name, inner in tree.items():
    at = f"{path}/{name}".removeprefix("/")
    if name not in params:
      raise ValueError(f"the adapter is on {at}, which the model does not have")
    if "a" not in inner:
      _check_shapes(params[name], inner, at)
      continue
    shape = params[name]["kernel"].shape
    a, b = inner["a"].shape, inner["b"].shape
    if not _fits(shape, a, b):
      raise ValueError(
        f"the adapter's {at} {a} x {b} does not fit the weight {shape}; "
        "it was made for another model"
      )


def _fits(shape, a, b) -> bool:
  """Whether a @ b is of a kernel, or of the last layers of a stack of them."""
  if len({len(shape), len(a), len(b)}) > 1 or a[-1] != b[-2]:
    return False
  fewer = all(n <= layers for n, layers in zip(a[:-2], shape[:-2], strict=True))
  return a[:-2] == b[:-2] and (a[-2], b[-1]) == shape[-2:] and fewer


def _replace(params, new, shardings, path):
  out = dict(params)
  for name, value in new.items():
    at = f"{path}/{name}"
    if isinstance(value, dict):
      out[name] = _replace(params[name], value, shardings[name], at)
    elif value.shape != params[name].shape:
      raise ValueError(
        f"the run's params{at} {value.shape} does not fit the checkpoint's "
        f"{params[name].shape}; it was made for another model"
      )
    else:
      cast = value.astype(params[name].dtype)
      out[name] = jax.device_put(cast, shardings[name])
  return out
