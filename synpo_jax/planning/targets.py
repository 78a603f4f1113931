"""Devices that are not there, for the compiler to compile for."""

import importlib.util
from typing import NamedTuple

import jax
from jax.experimental import topologies

from synpo_jax.planning import chips
from synpo_jax.runtime.terminal import first_line

# What XLA asks of a GPU that it cannot see (NVIDIA's CUDA programming guide
# and data sheets): multiprocessors, their FP32 units, bytes of shared memory
# in all and for one block, level-2 cache, clock in GHz, compute capability.
GPUS = {
  "a100": (108, 64, 167936, 166912, 41943040, 1.41, 8, "NONE"),
  "h100": (132, 128, 233472, 232448, 52428800, 1.98, 9, "ACCELERATED_FEATURES"),
  "h200": (132, 128, 233472, 232448, 52428800, 1.98, 9, "ACCELERATED_FEATURES"),
}


class Target(NamedTuple):
  """Devices to compile for, and the slice whose plan they give.

  estimate: what stands in for the slice's own chips, or "".
  """

  slice: chips.Slice
  devices: list
  estimate: str


def make(topology: str) -> Target:
  """The devices of `v5e:4x4` or `h100:8`.

  GPUs are compiled for where JAX's CUDA plugin is installed; TPUs stand in
  for them elsewhere. Raises ValueError, in one line, for a name the compiler
  does not know, and where libtpu or what the CUDA plugin needs is missing.
  """
  wanted = chips.parse(topology)
  if wanted.chip.platform == "tpu":
    return Target(wanted, _tpus(wanted), "")
  for cuda in ("cuda12", "cuda13"):
    if importlib.util.find_spec(f"jax_{cuda}_plugin"):
      return Target(wanted, _gpus(wanted, cuda), "")
  other = chips.stand_in(wanted)
  return Target(wanted, _tpus(other), other.name)


def _tpus(wanted: chips.Slice) -> list:
  if importlib.util.find_spec("libtpu") is None:
    raise ValueError(
      "libtpu, the TPU compiler, is not installed: pip install libtpu"
    )
  # JAX drives the two cores of a v4 as one device.
  cores = {"chip_config_name": "megacore"} if wanted.chip.name == "v4" else {}
  try:
    found = topologies.get_topology_desc(wanted.name, platform="tpu", **cores)
  except jax.errors.JaxRuntimeError as error:
    raise ValueError(f"topology={wanted.name}: {first_line(error)}") from error
  return list(found.devices)


def _gpus(wanted: chips.Slice, cuda: str) -> list:
  try:
    return _cuda_devices(wanted)
  except RuntimeError as error:  # JAX's plugin without NVIDIA's libraries
    raise ValueError(
      f"topology={wanted.name}: jax_{cuda}_plugin is installed, but cannot "
      f"compile ({first_line(error)}): pip install 'jax[{cuda}]' brings what "
      "it needs; without the plugin, TPUs give an estimate"
    ) from error


def _cuda_devices(wanted: chips.Slice) -> list:
  found = topologies.get_topology_desc(
    "",
    platform="cuda",
    target_config=gpu_description(wanted.chip),
    topology=f"1x1x{wanted.chips}",
  )
  return list(found.devices)


def gpu_description(chip: chips.Chip) -> str:
  """A chip as the text of XLA's GpuTargetConfigProto."""
  cores, units, shared, block, cache, clock, major, features = GPUS[chip.name]
  device = dict(
    threads_per_block_limit=1024,
    threads_per_warp=32,
    shared_memory_per_block=49152,
    shared_memory_per_core=shared,
    shared_memory_per_block_optin=block,
    threads_per_core_limit=2048,
    core_count=cores,
    fpus_per_core=units,
    block_dim_limit_x=2**31 - 1,
    block_dim_limit_y=2**16 - 1,
    block_dim_limit_z=2**16 - 1,
    thread_dim_limit_x=1024,
    thread_dim_limit_y=1024,
    thread_dim_limit_z=64,
    registers_per_core_limit=65536,
    registers_per_block_limit=65536,
    memory_bandwidth=int(chip.bandwidth),
    l2_cache_size=cache,
    clock_rate_ghz=clock,
    device_memory_size=int(chip.memory),
  )
  lines = [f"  {key}: {value}" for key, value in device.items()]
  lines.append(
    "  cuda_compute_capability "
    f"{{ major: {major} feature_extension: {features} }}"
  )
  return "\n".join(
    [
      "gpu_device_info {",
      *lines,
      "}",
      'platform_name: "CUDA"',
      "dnn_version_info { major: 9 minor: 10 patch: 0 }",
      f'device_description_str: "{chip.name}"',
    ]
  )
