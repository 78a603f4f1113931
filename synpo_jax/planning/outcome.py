"""What one plan comes to: memory, work, and the least time it can take."""

import math
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp

from synpo_jax.models import remat
from synpo_jax.models.tower_config import WindowTowerConfig, token_counts
from synpo_jax.planning import costs, kernels
from synpo_jax.planning.abstract_step import Step
from synpo_jax.planning.chips import Slice
from synpo_jax.runtime.compiled_memory import peak_bytes
from synpo_jax.training import update

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Memory(NamedTuple):
  """Bytes on a device. `temporary`: activations and all else of the step."""

  weights: float
  adapter: float
  optimiser: float
  batch: float
  temporary: float
  peak: float
  usable: float

  @property
  def fits(self) -> bool:
    return self.peak <= self.usable


class Work(NamedTuple):
  """What a device does in an update, and the seconds that takes at best.

  flops, bytes of its memory, bytes it receives by kind of collective,
  operations on single elements and those of them that make random numbers.
  """

  flops: float
  traffic: float
  received: dict[str, float]
  vector: float
  random: float
  seconds: dict[str, float]  # compute, memory, links, vector

  @property
  def bound(self) -> float:
    """Seconds that an update takes at least: the roofline."""
    return max(self.seconds.values())

  @property
  def binds(self) -> str:
    return max(self.seconds, key=self.seconds.get)


class Outcome(NamedTuple):
  """A plan's memory; its work, None where it could not be compiled."""

  memory: Memory
  work: Work | None
  pairs: int  # in an update
  seconds: float  # that the compiler took

  @property
  def fits(self) -> bool:
    return self.memory.fits

  @property
  def pairs_per_hour(self) -> float:
    """At best, by the roofline."""
    return 3600 * self.pairs / self.work.bound


def held(tree) -> float:
  """Bytes that a device holds of a tree of shapes with shardings."""
  return float(
    sum(
      math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
      for leaf in jax.tree.leaves(tree)
    )
  )


def before_compiling(step: Step, usable: float) -> Memory:
  """The least that a plan needs, known without a compiler.

  usable: bytes of a device.

  What lies on a device between updates, gradients of what learns, what the
  layers of decoder and tower save for the backward pass, and the head, which is
  whole in its vocabulary's share while it scores.
  """
  everything = update.merge(step.state.trained, step.frozen)
  parts = [
    held(everything["params"]),
    held(everything.get("lora", {})),
    held(step.state.opt),
    held(step.batch),
    held(step.state.trained) + scoring_head(step),
  ]
  parts[-1] += saved(step) + saved_by_tower(step)
  return Memory(*parts, sum(parts), usable)


def saved(step: Step) -> float:
  """Bytes on a device that the decoder's layers save, by policy."""
  c, shape = step.model.config.decoder, step.mesh.shape
  queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
  widths = {"q": queries, "k": keys, "v": keys, "attended": queries}
  widths |= {"gate": c.mlp_width, "up": c.mlp_width}
  policy = "save_dots" if step.model.remat == "none" else step.model.remat
  names = remat.REMAT[policy]
  split = sum(size for name, size in widths.items() if name in names)
  whole = c.width * (2 if "middle" in names else 1)  # the layer's input too
  share = split / shape["model"] + whole
  itemsize = jnp.dtype(step.model.dtype).itemsize
  size = share * itemsize
  if "attended" in names:  # the sums of its weights, float32
    size += 4 * c.heads / shape["model"]
  lora = step.model.lora
  if lora is not None and "decoder" in lora.where:
    if "inner" in names:  # of seven kernels
      size += 7 * lora.rank * itemsize
    if "kept" in names and lora.dropout:
      inputs = 2 * c.width + (queries + c.mlp_width) / shape["model"]
      size += inputs / 8
  rows = tokens(step) / (shape["data"] * shape["fsdp"])
  return rows * c.layers * size


def saved_by_tower(step: Step) -> float:
  """Those that a tower's layers save, from the first with an adapter on.

  A token of a layer counts where it is live; slots that merging leaves empty,
  masks of dropout, inner products of adapters and what DeepStack keeps come on
  top.
  """
  model, shape, c = step.model, step.mesh.shape, step.model.config.tower
  if model.split is None or not step.shape.frames:
    return 0.0
  names = remat.REMAT["save_dots" if model.remat == "none" else model.remat]
  widths = dict.fromkeys((*remat.ATTENTION_NAMES, "middle"), c.width)
  widths |= {"up": c.mlp_width}
  if isinstance(c, WindowTowerConfig):
    counts = [c.tokens * c.merge**2] * c.layers
    widths |= {"gate": c.mlp_width} if c.activation == "silu" else {}
  else:
    counts = token_counts(c)[: c.tap]
  size = c.width + sum(n for name, n in widths.items() if name in names)
  steps = step.shape.frames // model.config.frames_per_step
  pairs = step.batch.response.shape[1] / (shape["data"] * shape["fsdp"])
  itemsize = jnp.dtype(model.dtype).itemsize
  return pairs * steps * sum(counts[model.split :]) * size * itemsize


def scoring_head(step: Step) -> float:
  """Bytes of the head's kernel that are gathered while it scores."""
  c, shape = step.model.config.decoder, step.mesh.shape
  size = c.width * c.vocab * jnp.dtype(step.model.dtype).itemsize
  return size / shape["model"] if shape["fsdp"] > 1 else 0.0


def tokens(step: Step) -> int:
  """Positions that the decoder reads in a micro-batch, padding included."""
  if step.batch.packed:
    return math.prod(step.batch.packed.tokens.shape[1:])
  _, pairs, captions, response = step.batch.response.shape
  prefix = step.shape.prefix
  if step.layout == "shared":
    return pairs * (prefix + captions * response)
  return pairs * captions * (prefix + response)


def measured(before: Memory, compiled) -> Memory:
  """The same with what the compiled step adds."""
  temporary = float(compiled.memory_analysis().temp_size_in_bytes)
  return before._replace(temporary=temporary, peak=float(peak_bytes(compiled)))


def exceeded(before: Memory, message: str) -> Memory:
  """The same from the compiler's message that memory does not suffice.

  Raises ValueError for a message that says something else.
  """
  found = re.search(r"(?:[Uu]sed|temporaries \()\s*([\d.]+)([KMGT]?)", message)
  if "RESOURCE_EXHAUSTED" not in message or not found:
    raise ValueError(f"the compiler failed: {message.splitlines()[0]}")
  peak = float(found[1]) * UNITS[found[2]]
  at_rest = before.peak - before.temporary
  return before._replace(temporary=peak - at_rest, peak=peak)


def work(step: Step, text: str, where: Slice) -> Work:
  """What the compiled step's text makes a device do."""
  total = costs.count(text)
  flops = total.flops + kernels.flops(step, total.kernels)
  seconds = {
    "compute": flops / where.per_device("peak"),
    "memory": total.traffic / where.per_device("bandwidth"),
    "links": sum(total.received.values()) / where.per_device("links"),
    "vector": total.vector / where.per_device("vector"),
  }
  counted = total.traffic, total.received, total.vector, total.random
  return Work(flops, *counted, seconds)
