"""From frames and a question to captions: batches, two passes, contrast."""

import collections
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from synpo_jax.data import video
from synpo_jax.generation import decode, prompt_batches, shots
from synpo_jax.generation.decode_loop import Prompts
from synpo_jax.generation.sampling import Sampling
from synpo_jax.generation.shots import Ask, Captioned, Shot, Text
from synpo_jax.models import sharding
from synpo_jax.models.captioner import Captioner


class Writer(NamedTuple):
  """A captioner in its place, and how shots are batched for it."""

  model: Captioner
  variables: dict
  format: prompt_batches.Format
  eos_ids: tuple[int, ...]
  mesh: jax.sharding.Mesh
  pixels: video.Preprocess
  batch_size: int
  frame_buckets: int | tuple[int, ...]

  def prepare(
    self, picture: UInt8[np.ndarray, "y x 3"]
  ) -> UInt8[np.ndarray, "Y X 3"]:
    """A frame as the captioner wants it."""
    return video.preprocess(picture, self.pixels)

  def write(self, wanted: Iterable[Shot], ask: Ask) -> Iterator[Captioned]:
    """Yields the captions of every shot, in the order of the shots."""
    order, done = collections.deque(), {}

    def noted():
      for shot in wanted:
        order.append((shot.id, shot.part))
        yield shot

    groups = shots.grouped(
      noted(),
      partial(_bucket, self),
      size=self.batch_size,
      contrast=ask.contrast,
    )
    for group in groups:
      for shot, texts in zip(group, _caption(self, group, ask), strict=True):
        done[shot.id, shot.part] = texts
      while order and order[0] in done:
        key = order.popleft()
        yield Captioned(*key, done.pop(key))


def _bucket(writer, count):
  config = writer.model.config
  return shots.frame_bucket(config, writer.frame_buckets, count)


def _caption(writer, group: list[Shot], ask: Ask) -> list[list[Text]]:
  """Both passes over one batch."""
  views = _look(writer, group, ask)
  names = [shot.name for shot in group]
  asked = [[ask.question]] * len(group)
  first, tokens = _answer(writer, ask, views, names, asked)
  last = first
  if ask.retrospective:
    asked = [[shots.again(answer, ask) for answer in row] for row in first]
    names = [f"{name} again" for name in names]
    last, more = _answer(writer, ask, views, names, asked)
    tokens = tokens + more
  return [
    [Text(*cell) for cell in zip(*row, strict=True)]
    for row in zip(first, last, tokens.tolist(), strict=True)
  ]


class Seen(NamedTuple):
  """Videos of a batch as the decoder reads them."""

  visual: Float[Array, "N M D"]  # zero frames behind a video's own
  counts: list[int]  # frames of each of B videos; the rows behind are filler


class Views(NamedTuple):
  """What both passes read of a batch; without contrast there is no `weak`."""

  full: Seen
  weak: Seen | None
  weights: list[float]  # of each video's contrast


def _look(writer, group: list[Shot], ask: Ask) -> Views:
  """Runs the tower, once for both passes."""
  F = max(_bucket(writer, len(shot.frames)) for shot in group)
  full = _see(writer, [shot.frames for shot in group], F)
  if not ask.contrast:
    return Views(full, None, [])
  f = shots.frame_bucket(writer.model.config, 1, video.contrast_count(F))
  weak = _see(writer, [shot.weak for shot in group], f)
  weights = [ask.contrast_weight * shots.has_contrast(shot) for shot in group]
  return Views(full, weak, weights)


def _see(writer, clips, F: int) -> Seen:
  step = writer.model.config.frames_per_step
  rows = _rows(writer, len(clips))
  frames, counts = shots.stack(clips, rows, F, step)
  placed = _place(writer, frames)
  return Seen(_embed(writer.model, writer.variables, placed), counts)


@partial(jax.jit, static_argnums=0)
def _embed(model, variables, frames):
  features = model.apply(variables, frames, method="encode")
  return model.apply(variables, features, method="connect")


def _rows(writer, count: int) -> int:
  """Rows of a batch: powers of two times the devices that share them."""
  rows = writer.mesh.shape["data"] * writer.mesh.shape["fsdp"]
  while rows < count:
    rows *= 2
  return rows


def _place(writer, arrays):
  return jax.device_put(arrays, sharding.rows_sharding(writer.mesh))


def _answer(writer, ask, views: Views, names, asked):
  """Answers [B][C] (text) and their lengths [B, C] to questions [B][1 or C].

  Questions that differ share the part of the prompt that does not.
  """
  filler = _rows(writer, len(names)) - len(names)
  contrast = None
  if views.weak is not None:
    weights = np.float32(views.weights + [0.0] * filler)
    weak = _batch(writer, views.weak, asked)
    contrast = decode.Contrast(weak, weights, ask.contrast_cutoff)
  out = decode.generate(
    writer.model,
    writer.variables,
    _batch(writer, views.full, asked),
    decode.row_keys(ask.seed, names + names[-1:] * filler),
    candidates=ask.candidates,
    max_new_tokens=ask.max_new_tokens,
    sampling=Sampling(ask.temperature, ask.top_k, ask.top_p),
    eos_ids=writer.eos_ids,
    contrast=contrast,
  )
  lengths = out.lengths[: len(names)]
  answers = [
    [_text(writer, *cell) for cell in zip(*row, strict=True)]
    for row in zip(out.tokens, lengths)  # noqa: B905 - filler rows are left
  ]
  return answers, lengths


def _text(writer, tokens, length) -> str:
  ids = tokens[:length].tolist()
  return writer.format.tokenizer.decode(ids, skip_special_tokens=True).strip()


def _batch(writer, seen: Seen, asked) -> Prompts:
  rows = seen.visual.shape[0]
  words = prompt_batches.make(writer.format, seen.counts, asked, rows)
  return _place(writer, words)._replace(visual=seen.visual)
