"""FLOPs of attention kernels, whose insides a program's text does not show."""

from typing import NamedTuple

import numpy as np

from synpo_jax.data.batch import SEGMENTS
from synpo_jax.models import attention_cudnn, attention_splash, packed_rows
from synpo_jax.planning.abstract_step import Step

# Matrix products per block: scores and mixing forward; scores, dv, dp, dk or
# scores, dp, dq in two backward kernels; all five in a fused one.
PRODUCTS = {"dqkv": 5, "dkv": 4, "dq": 3, "bwd": 5, "fwd": 2}


class Computed(NamedTuple):
  """Pairs of query and key of a row that are computed, hidden ones too."""

  forward: int
  backward: int


def flops(step: Step, runs: dict[str, float]) -> float:
  """FLOPs of a device's attention kernels in an update.

  runs: how often each kernel runs, by its name. Raises ValueError for one
  that is not known to be attention.
  """
  pairs = _pairs(step, runs)
  return sum(
    2.0 * count * products(name) * pairs[name] * _heads(step)
    for name, count in runs.items()
  )


def _pairs(step, runs) -> dict[str, int]:
  """Pairs of query and key of a row in one run of each kernel, by its name."""
  masks = {name: "Bias" in name for name in runs}
  if step.model.attention.name == "cudnn" and not all(masks.values()):
    calls = attention_cudnn.computed(_slots(step))
    return {name: calls[masked] for name, masked in masks.items()}
  computed = _block_pairs(step) if runs else None
  return {name: computed[_kind(name) != "fwd"] for name in runs}


def products(name: str) -> int:
  """Matrix products per block of a kernel, from the name it has in XLA."""
  return PRODUCTS[_kind(name)]


def _kind(name) -> str:
  plain = name.lower().replace("backward", "bwd").replace("softmax", "fwd")
  for kind in PRODUCTS:
    if kind in plain:
      return kind
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


def _block_pairs(step) -> Computed:
  if step.batch.packed:
    return _packed_pairs(step)
  prefix, response, _ = step.shape
  rows = _slots(step)
  length = prefix + response * (rows.count if rows else 1)
  if step.model.attention.name != "splash":
    return Computed(length**2, length**2)
  kind = step.model.attention.kind
  tiles = attention_splash.tiling(length, rows, None, kind)
  rule = length, tiles.length, rows, None
  return _in_blocks(tiles, attention_splash.lanes_seen(*rule))


def _slots(step) -> packed_rows.Slots | None:
  if step.layout != "shared":
    return None
  prefix, response, _ = step.shape
  return packed_rows.Slots(prefix, response, step.batch.response.shape[2])


def _in_blocks(tiles, seen) -> Computed:
  """Pairs in the blocks of both kernels; `seen` is by lanes."""
  lanes = attention_splash.LANES
  return Computed(
    *(
      attention_splash.visited(seen, side // lanes) * side**2
      for side in (tiles.forward, tiles.backward)
    )
  )


def _packed_pairs(step) -> Computed:
  """The same of a row that is full of pairs of the planned lengths."""
  *_, length = step.batch.packed.tokens.shape
  *_, places, captions = step.batch.packed.begins.shape
  if step.model.attention.name != "splash":
    return Computed(length**2, length**2)
  prefix, response, _ = step.shape
  own = np.repeat(np.arange(1 + captions), [prefix] + [response] * captions)
  pair = 1 + np.arange(places)[:, None] * SEGMENTS + own
  tiles = attention_splash.row_tiling(length)
  segments = np.zeros(tiles.length, int)
  segments[: pair.size] = pair.ravel()
  seen = segments == packed_rows.prompt_of(segments)[:, None]
  seen |= (segments == segments[:, None]) & (segments > 0)
  seen &= np.tri(tiles.length, dtype=bool)
  lanes = attention_splash.LANES
  by_lanes = seen.reshape(tiles.length // lanes, lanes, -1, lanes)
  return _in_blocks(tiles, by_lanes.any(axis=(1, 3)))
