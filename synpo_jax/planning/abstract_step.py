"""The train step of a config, from shapes alone, for any mesh of devices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synpo_jax import losses
from synpo_jax.data import packing, padding
from synpo_jax.data.batch import Batch, Packed
from synpo_jax.models import captioner, sharding
from synpo_jax.planning import first_lists
from synpo_jax.training import caches, job, train_steps, update
from synpo_jax.training import packing as shared_rows
from synpo_jax.weights import loading

# Tokens of the question and the chat format, and between two visual blocks:
# AuroraCap's prompt is 36 + 110 tokens a frame, 109 of them visual; Qwen3-VL
# writes `<12.5 seconds>` between two marks.
TEXT_TOKENS, GAP_TOKENS, STAMP_TOKENS = 36, 1, 12


class Shape(NamedTuple):
  """Padded sizes of a pair: prefix, response, frames (0: text alone)."""

  prefix: int
  response: int
  frames: int


class Step(NamedTuple):
  """A train step that can be lowered, with all it takes as shapes."""

  function: object  # jitted
  state: update.TrainState
  frozen: dict
  batch: Batch
  model: captioner.Captioner
  shape: Shape
  layout: str
  mesh: jax.sharding.Mesh

  def lower(self):
    """The step traced for its mesh; nothing is compiled yet."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return self.function.lower(self.state, self.frozen, self.batch, key)


def pair_shape(c, sizes, frames=None, response=None) -> Shape:
  """The bucket of a pair of `frames` frames and `response` caption tokens.

  Where they are None: the largest that the config lets through. The prompt is
  taken to have AuroraCap's number of text tokens. Raises ValueError for a
  prompt that leaves no room, and for lengths beyond the last bucket.
  sizes: the model's CaptionerConfig.
  """
  prompt = TEXT_TOKENS
  if sizes.tower is None:
    frames = 0
  else:
    wanted = frames or c.frames.get("fixed") or c.frames.max_frames
    frames = _round(wanted, c.data.frame_buckets)
    prompt += video_tokens(sizes, frames)
  room = c.data.max_len - prompt
  if room < 1:
    raise ValueError(
      f"data.max_len={c.data.max_len}: the prompt of {frames} frames alone "
      f"takes {prompt} positions; raise it, or give --frames"
    )
  if response is None:
    buckets = c.data.response_buckets
    response = room if isinstance(buckets, int) else min(room, max(buckets))
  if not frames:  # a prompt of text fills what the captions leave
    prompt = max(prompt, c.data.max_len - response)
  return Shape(
    _round(prompt, c.data.prefix_buckets),
    _round(response, c.data.response_buckets),
    frames,
  )


def video_tokens(sizes, frames: int) -> int:
  """Tokens of a prompt that a video takes, with those between its blocks."""
  blocks = sizes.blocks(frames)
  gap = STAMP_TOKENS if sizes.stamped else GAP_TOKENS
  return sizes.room(frames) + gap * len(blocks)


def _round(length, buckets) -> int:
  return int(padding.round_up(np.array([length]), buckets)[0])


def build(c, devices, frames=None, response=None) -> Step:
  """The step that a run of `c` would jit on `devices`, which may not exist.

  frames, response: as `pair_shape` takes them. Raises ValueError for a mesh
  or micro-batch that the devices cannot split.
  """
  mesh = sharding.make_mesh(**c.mesh, devices=devices)
  sharding.check_batch(mesh, c.data.batch_size)
  model = job.make_model(c, mesh)
  shared_rows.check(c, model.config)
  variables = loading.abstract_variables(model, mesh)
  trained, frozen = update.split(variables, c.trainable)
  frozen, _ = caches.lay_aside(c, model, frozen)
  steps = train_steps.make_steps(c, model, trained, mesh, updates=1000)
  state = steps.init.eval_shape(trained)
  shape = pair_shape(c, model.config, frames, response)
  batch = abstract_batch(c, model, shape, mesh)
  layout = c.step.layout_name
  return Step(steps.train, state, frozen, batch, model, shape, layout, mesh)


def abstract_batch(c, model, shape: Shape, mesh) -> Batch:
  """The batch of an update, [A, B, ...], as shapes with shardings.

  It brings features and reference log-probs where the config caches them.
  """
  loss = losses.make(**c.loss.to_dict())
  captions = first_lists.longest(c.data.pairs) if loss.lists else loss.captions
  rows, packed = (c.data.accumulation, c.data.batch_size), None
  prefix = shape.prefix
  if c.data.packing:
    packed, prefix = abstract_packed(c, shape, captions, mesh), 0
    steps, count, places, _ = packed.begins.shape
    rows = steps, count * places
  arrays = {
    "prefix": ((prefix,), jnp.int32),
    "prefix_mask": ((prefix,), jnp.bool_),
    "response": ((captions, shape.response), jnp.int32),
    "response_mask": ((captions, shape.response), jnp.bool_),
    "weight": ((), jnp.float32),
    "row": ((), jnp.int32),
  }
  if shape.frames:
    size = model.config.largest(shape.frames)
    frames = (shape.frames, *size, 3), jnp.uint8
    if caches.keeps_features(c, model):
      made, dtype = features(model, *frames)
      if model.config.follow:
        made = 1, shape.prefix, made[-1]
      arrays["features"] = made, dtype
    else:
      arrays["frames"] = frames
  if c.cache.references and loss.needs_reference:
    arrays["ref_logps"] = (captions,), jnp.float32
  if loss.lists:
    arrays["scores"] = (captions,), jnp.float32
  where = sharding.batch_sharding(mesh)
  return Batch(
    **{
      name: jax.ShapeDtypeStruct((*rows, *size), dtype, sharding=where)
      for name, (size, dtype) in arrays.items()
    },
    packed=packed,
  )


def abstract_packed(c, shape: Shape, captions: int, mesh) -> Packed:
  """Rows of data.packing positions, as full of such pairs as can be.

  Raises ValueError where a row holds none.
  """
  length, told = c.data.packing, captions * shape.response
  places = length // (shape.prefix + told)
  if not places:
    raise ValueError(
      f"data.packing={length}: a pair of {shape.prefix} + {captions} x "
      f"{shape.response} positions does not fit; raise it, or give --response"
    )
  pairs = c.data.batch_size, c.data.accumulation
  rows = packing.cut(float(places), *pairs, sharding.row_shards(mesh))
  where = sharding.batch_sharding(mesh)
  sizes = 3 * [(length,)] + 2 * [(places * told,)] + [(places, captions)]
  return Packed(
    *(
      jax.ShapeDtypeStruct((*rows, *size), jnp.int32, sharding=where)
      for size in sizes
    )
  )


def features(model, size, dtype):
  """(shape, dtype) of the features of one video, as a cache stores them.

  size: of its frames, (F, Y, X, 3); dtype: theirs.
  """

  def encode(variables, pixels):
    return model.apply(variables, pixels, method="encode")

  pixels = jax.ShapeDtypeStruct((1, *size), dtype)
  made = jax.eval_shape(encode, captioner.shapes(model), pixels)
  return made.shape[1:], jnp.bfloat16
