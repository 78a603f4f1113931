"""FLOPs of attention kernels, whose insides a program's text does not show."""

import numpy as np

from synpo_jax.data.batch import SEGMENTS
from synpo_jax.models import attention_splash, packed_rows
from synpo_jax.planning.abstract_step import Step

# Matrix products per block: scores and mixing forward; scores, dv, dp, dk or
# scores, dp, dq in the two backward kernels; all five in a fused one.
PRODUCTS = {"fwd": 2, "dkv": 4, "dq": 3, "bwd": 5}


def flops(step: Step, runs: dict[str, float]) -> float:
  """FLOPs of a device's attention kernels in an update.

  runs: how often each kernel runs, by its name. Raises ValueError for one
  that is not known to be attention.
  """
  one = 2.0 * _block_pairs(step) * _heads(step) if runs else 0.0
  return sum(count * products(name) * one for name, count in runs.items())


def products(name: str) -> int:
  """Matrix products per block of a kernel, from the name it has in XLA."""
  plain = name.lower().replace("backward", "bwd").replace("softmax", "fwd")
  for key in ("dkv", "dq", "bwd", "fwd"):
    if key in plain:
      return PRODUCTS[key]
  raise ValueError(f"kernel {name} is not known: its FLOPs cannot be counted")


def _heads(step) -> float:
  """Rows times heads times their width, on one device."""
  c, shape = step.model.config.decoder, step.mesh.shape
  pairs, captions = step.batch.response.shape[1:3]
  rows = pairs * (1 if step.layout == "shared" else captions)
  if step.batch.packed:
    rows = step.batch.packed.tokens.shape[1]
  devices = shape["data"] * shape["fsdp"] * shape["model"]
  return rows * c.heads * c.head_dim / devices


def _block_pairs(step) -> int:
  """Pairs of query and key of a row that are computed, hidden ones too."""
  if step.batch.packed:
    return _packed_pairs(step)
  captions = step.batch.response.shape[2]
  prefix, response, _ = step.shape
  shared = step.layout == "shared"
  length = prefix + response * (captions if shared else 1)
  if step.model.attention.name != "splash":
    return length**2
  rows = packed_rows.Slots(prefix, response, captions) if shared else None
  side, padded = attention_splash.tiling(length, rows, None)
  index = np.arange(padded)
  seen = packed_rows.sees(rows, None, index[:, None], index[None])
  tiles = seen.reshape(padded // side, side, -1, side)
  return int(tiles.any(axis=(1, 3)).sum()) * side**2


def _packed_pairs(step) -> int:
  """The same of a row that is full of pairs of the planned lengths."""
  *_, length = step.batch.packed.tokens.shape
  *_, places, captions = step.batch.packed.begins.shape
  if step.model.attention.name != "splash":
    return length**2
  prefix, response, _ = step.shape
  own = np.repeat(np.arange(1 + captions), [prefix] + [response] * captions)
  pair = 1 + np.arange(places)[:, None] * SEGMENTS + own
  side, padded = attention_splash.row_tiling(length)
  segments = np.zeros(padded, int)
  segments[: pair.size] = pair.ravel()
  seen = segments == packed_rows.prompt_of(segments)[:, None]
  seen |= (segments == segments[:, None]) & (segments > 0)
  seen &= np.tri(padded, dtype=bool)
  tiles = seen.reshape(padded // side, side, -1, side)
  return int(tiles.any(axis=(1, 3)).sum()) * side**2
