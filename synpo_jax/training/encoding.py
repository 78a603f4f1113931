"""Videos to tower features, on the devices of this process alone."""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from synpo_jax.data import chunks
from synpo_jax.data.stream import Stream


class Blocks:
  """Batches of whole videos end to end, frames uint8 [N, Y, X, 3].

  Zeros fill the last frames. groups: the numbers of the videos in each block.
  """

  def __init__(self, frames: chunks.Frames, numbers: Sequence[int], size: int):
    self.frames, self.size, self.groups, room = frames, size, [], 0
    for number in numbers:
      if frames.count(number) > room:
        self.groups.append([])
        room = size
      self.groups[-1].append(number)
      room -= frames.count(number)

  def __len__(self) -> int:
    return len(self.groups)

  def __getitem__(self, index: int) -> np.ndarray:
    clips = np.concatenate([self.frames(n) for n in self.groups[index]])
    block = np.zeros((self.size, *clips.shape[1:]), np.uint8)
    block[: len(clips)] = clips
    return block


def make_encoder(model, tower, frames_at_once: int) -> Callable[..., Iterator]:
  """Returns (frames, numbers) -> iterator of (number, features).

  Features are bfloat16 [S, K, Dv], as `Captioner.encode` makes them. Blocks
  of one size for all videos mean one compilation, or one for each size of their
  frames. Rows are split over the devices of this process; each of them holds
  the whole tower already, so processes need not keep step.

  Args:
    model, tower: a Captioner, and its weights `params/tower` on a mesh.
    frames_at_once: frames that a device encodes together.
  """
  model = model.clone(lora=None)  # whose weights are not at hand
  devices = _devices(tower)
  mesh = Mesh(np.array(devices), ("rows",))
  rows, whole = NamedSharding(mesh, P("rows")), NamedSharding(mesh, P())
  tower = jax.tree.map(lambda leaf: _own(leaf, devices, whole), tower)
  step = model.config.frames_per_step

  @functools.partial(jax.jit, out_shardings=rows)
  def encode(tower, frames):
    steps = frames.reshape(-1, step, *frames.shape[1:])
    variables = {"params": {"tower": tower}}
    features = model.apply(variables, steps, method="encode")
    return features[:, 0].astype(jnp.bfloat16)

  def run(frames, numbers):
    sizes = {int(number): frames.size(int(number)) for number in numbers}
    for size in sorted({*sizes.values()}):
      yield from of_one_size(frames, [n for n in sizes if sizes[n] == size])

  def of_one_size(frames, numbers):
    longest = max(map(frames.count, numbers))
    size = max(frames_at_once * len(devices), longest)
    unit = step * len(devices)
    blocks = Blocks(frames, numbers, -(-size // unit) * unit)
    stream, last = Stream(blocks, 0), ()
    for group, block in zip(blocks.groups, stream, strict=True):
      made = encode(tower, jax.device_put(block, rows))
      yield from _split(frames, step, *last)
      last = group, made  # fetched when the next block is under way
    yield from _split(frames, step, *last)

  return run


def _devices(tower):
  found = jax.tree.leaves(tower)[0].sharding.addressable_devices
  return sorted(found, key=lambda device: device.id)


def _own(leaf, devices, whole):
  """The copies that this process has of a replicated array, as one array."""
  held = {shard.device: shard.data for shard in leaf.addressable_shards}
  copies = [held[device] for device in devices]
  return jax.make_array_from_single_device_arrays(leaf.shape, whole, copies)


def _split(frames, step, group=(), features=None):
  """The features of each video of a block."""
  start, features = 0, np.asarray(features)
  for number in group:
    end = start + frames.count(number) // step
    yield number, features[start:end]
    start = end
