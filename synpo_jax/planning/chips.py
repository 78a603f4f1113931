"""Chips as their makers publish them, and the slices they come in.

Sources: Google's pages "TPU v4", "v5e", "v5p" and "v6e" (docs.cloud.google.com
/tpu/docs); NVIDIA's data sheets of the A100 80GB SXM, H100 SXM and H200 SXM.
Peaks are dense bfloat16. Links count one direction, all of a chip's together:
half of the figures that are called bidirectional. Vector units are not
published for TPUs: 8 x 128 lanes of 4 units a core, at the clock that the peak
implies (v6e: taken as v5p's); GPUs' are half of their 32-bit integer peak,
which counts a multiply-add as two.
"""

import math
import re
from typing import NamedTuple

from synpo_jax.runtime.starting import GPU_PART as GPU

GIB = 2**30


class Chip(NamedTuple):
  """One accelerator. FLOP/s, bytes, bytes/s, operations on elements/s."""

  name: str
  peak: float
  memory: float  # as published
  usable: float  # what a program may fill
  bandwidth: float
  links: float
  vector: float
  platform: str  # "tpu" | "cuda"


# Usable memory: TPUs, the limit that libtpu 0.0.52 states when a program
# exceeds it; GPUs, what our commands have JAX take.
CHIPS = {
  chip.name: chip
  for chip in (
    Chip("v4", 275e12, 32 * GIB, 30.75 * GIB, 1.228e12, 300e9, 8.6e12, "tpu"),
    Chip("v5e", 197e12, 16 * GIB, 15.75 * GIB, 0.819e12, 200e9, 6.1e12, "tpu"),
    Chip("v5p", 459e12, 95 * GIB, 95.73 * GIB, 2.765e12, 600e9, 14.3e12, "tpu"),
    Chip("v6e", 918e12, 32 * GIB, 31.24 * GIB, 1.640e12, 400e9, 7.2e12, "tpu"),
    Chip("a100", 312e12, 80e9, GPU * 80e9, 2.039e12, 300e9, 9.7e12, "cuda"),
    Chip("h100", 989e12, 80e9, GPU * 80e9, 3.35e12, 450e9, 16.7e12, "cuda"),
    Chip("h200", 989e12, 141e9, GPU * 141e9, 4.8e12, 450e9, 16.7e12, "cuda"),
  )
}


# What JAX calls the devices of some of them (jax/_src/pallas/mosaic/tpu_info.py
# has the TPUs'; GPUs' are NVIDIA's product names).
KINDS = {
  "TPU v4": "v4",
  "TPU v5 lite": "v5e",
  "TPU v5e": "v5e",
  "TPU v5": "v5p",
  "TPU v5p": "v5p",
  "TPU v6 lite": "v6e",
  "TPU v6e": "v6e",
  "NVIDIA A100-SXM4-80GB": "a100",
  "NVIDIA H100 80GB HBM3": "h100",
  "NVIDIA H200": "h200",
}


class Slice(NamedTuple):
  """So many chips of a kind; `name` is what the compiler knows it by."""

  chip: Chip
  chips: int
  name: str

  @property
  def devices(self) -> int:
    """Devices that JAX sees: one in each chip."""
    return self.chips

  def per_device(self, figure: str) -> float:
    """A figure of the chip (peak, usable, ...), which is one device."""
    return getattr(self.chip, figure)


def parse(topology: str) -> Slice:
  """The slice that `v5e:4x4` or `h100:8` means.

  Raises ValueError, in one line, for a name that is not of that form.
  """
  match = re.fullmatch(r"(\w+):([1-9]\d*(?:x[1-9]\d*)*)", topology)
  if not match or match[1] not in CHIPS:
    raise ValueError(
      f"topology={topology}: give chip:shape, as v5e:4x4 or h100:8, with a "
      f"chip of {', '.join(CHIPS)}"
    )
  count = math.prod(map(int, match[2].split("x")))
  return Slice(CHIPS[match[1]], count, topology)


def of_kind(kind: str, devices: int) -> Slice | None:
  """So many devices of what JAX calls a kind; None where it is not known."""
  if kind not in KINDS:
    return None
  return Slice(CHIPS[KINDS[kind]], devices, f"{devices} x {kind}")


def stand_in(gpus: Slice) -> Slice:
  """As many TPUs, compiled for where GPUs cannot be: v5p has most memory.

  Raises ValueError for numbers of which there are no slices.
  """
  if gpus.chips & (gpus.chips - 1):
    raise ValueError(
      f"topology={gpus.name}: without JAX's CUDA plugin only 1, 2, 4, 8 ... "
      "GPUs can be estimated"
    )
  sides = [1, 1, 1]
  for step in range(gpus.chips.bit_length() - 1):
    sides[step % 3] *= 2
  return parse("v5p:" + "x".join(map(str, sides)))
