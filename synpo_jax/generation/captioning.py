"""From frames and a question to captions: batches, two passes, contrast."""

import collections
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from synpo_jax.data import prompts, text, video
from synpo_jax.generation import decode, prompt_batches, shots
from synpo_jax.generation.sampling import Sampling
from synpo_jax.generation.shots import Shot, Text
from synpo_jax.models import sharding
from synpo_jax.models.captioner import Captioner


class Loaded(NamedTuple):
  """A captioner in its place, and how shots are batched for it."""

  model: Captioner
  variables: dict
  format: prompt_batches.Format
  eos_ids: tuple[int, ...]
  mesh: jax.sharding.Mesh
  batch_size: int
  frame_buckets: int | tuple[int, ...]


class Ask(NamedTuple):
  """What is asked of every shot; see `write`."""

  seed: int
  question: str
  candidates: int
  max_new_tokens: int
  how: Sampling
  retrospective: bool
  caution: bool
  contrast_weight: float
  contrast_cutoff: float | None


def write(
  captioner: Loaded,
  wanted: Iterable[Shot],
  *,
  seed: int,
  question: str,
  candidates: int,
  max_new_tokens: int,
  temperature: float,
  top_k: int,
  top_p: float,
  retrospective: bool,
  caution: bool,
  contrast_weight: float,
  contrast_cutoff: float | None,
) -> Iterator[tuple[object, list[Text]]]:
  """Yields (shot.id, captions) for every shot, in the order of the shots.

  A caption depends on the seed and the shot, not on the shots around it.

  Args:
    candidates: captions per shot.
    temperature, top_k, top_p: of sampling; temperature 0 is greedy.
    retrospective: a second pass sees the first answer and betters it.
    caution: the second pass is asked for care (clip captions).
    contrast_weight: of contrastive decoding, 0 for none; every shot then
      needs `weak` frames. A shot whose weak frames are all its frames goes
      without. contrast_cutoff: see sampling.contrast; None for none.
  """
  _refuse_negative(contrast_weight)
  ask = Ask(
    seed,
    question,
    candidates,
    max_new_tokens,
    Sampling(temperature, top_k, top_p),
    retrospective,
    caution,
    contrast_weight,
    contrast_cutoff,
  )
  order, made = collections.deque(), {}

  def noted():
    for shot in wanted:
      order.append(shot.id)
      yield shot

  groups = shots.grouped(
    noted(),
    partial(_bucket, captioner),
    size=captioner.batch_size,
    contrast=contrast_weight > 0,
  )
  for group in groups:
    for shot, texts in zip(group, _caption(captioner, group, ask), strict=True):
      made[shot.id] = texts
    while order and order[0] in made:
      name = order.popleft()
      yield name, made.pop(name)


def _refuse_negative(contrast_weight: float):
  if not contrast_weight >= 0:  # NaN is none either
    raise ValueError(
      f"contrast_weight={contrast_weight}: must be 0 (no contrast) or more"
    )


def _bucket(captioner, count):
  config = captioner.model.config
  return shots.frame_bucket(config, captioner.frame_buckets, count)


def _caption(captioner, group: list[Shot], ask: Ask) -> list[list[Text]]:
  """Both passes over one batch."""
  F = max(_bucket(captioner, len(shot.frames)) for shot in group)
  full = _see(captioner, [shot.frames for shot in group], F)
  weak, weight = None, None
  if ask.contrast_weight:
    f = shots.frame_bucket(captioner.model.config, 1, video.contrast_count(F))
    weak = _see(captioner, [shot.weak for shot in group], f)
    weight = [ask.contrast_weight * shots.has_contrast(shot) for shot in group]
  go = partial(_pass, captioner, ask, full, weak, weight)
  names = [f"{shot.id}" for shot in group]
  asked = [[ask.question]] * len(group)
  first, tokens = go(names, asked)
  last = first
  if ask.retrospective:
    asked = [[_again(answer, ask) for answer in row] for row in first]
    last, more = go([f"{name} again" for name in names], asked)
    tokens = tokens + more
  return [
    [Text(*cell) for cell in zip(*row, strict=True)]
    for row in zip(first, last, tokens.tolist(), strict=True)
  ]


def _again(answer: str, ask: Ask) -> str:
  """The second question; an empty first answer is asked for once more."""
  answer = answer.replace(text.MARK, "").strip()  # it would mean a video
  if not answer:
    return ask.question
  return prompts.retrospective(
    answer, question=ask.question, caution=ask.caution
  )


class Seen(NamedTuple):
  """Videos of a batch as the decoder reads them."""

  visual: jax.Array  # [B, M, D], zero frames behind a video's own
  counts: list[int]  # frames of each video


def _see(captioner, clips, F: int) -> Seen:
  """Runs the tower once; both passes read its result."""
  step = captioner.model.config.frames_per_step
  rows = _rows(captioner, len(clips))
  frames, counts = shots.stack(clips, rows, F, step)
  placed = _place(captioner, frames)
  return Seen(_look(captioner.model, captioner.variables, placed), counts)


@partial(jax.jit, static_argnums=0)
def _look(model, variables, frames):
  features = model.apply(variables, frames, method="encode")
  return model.apply(variables, features, method="connect")


def _rows(captioner, count: int) -> int:
  """Rows of a batch: powers of two times the devices that share them."""
  rows = captioner.mesh.shape["data"] * captioner.mesh.shape["fsdp"]
  while rows < count:
    rows *= 2
  return rows


def _place(captioner, array):
  return jax.device_put(array, sharding.rows_sharding(captioner.mesh))


def _pass(captioner, ask, full, weak, weight, names, asked):
  """Answers [B][C] (text) and their lengths [B, C] to questions [B][1 or C].

  Questions that differ share the part of the prompt that does not.
  """
  filled = names + names[-1:] * (_rows(captioner, len(names)) - len(names))
  contrast = None
  if weak is not None:
    weight = np.float32(weight + [0.0] * (len(filled) - len(names)))
    second = _batch(captioner, weak, asked)
    contrast = decode.Contrast(second, weight, ask.contrast_cutoff)
  out = decode.generate(
    captioner.model,
    captioner.variables,
    _batch(captioner, full, asked),
    decode.row_keys(ask.seed, filled),
    candidates=ask.candidates,
    max_new_tokens=ask.max_new_tokens,
    how=ask.how,
    eos_ids=captioner.eos_ids,
    contrast=contrast,
  )
  lengths = out.lengths[: len(names)]
  answers = [
    [_text(captioner, *cell) for cell in zip(*row, strict=True)]
    for row in zip(out.tokens, lengths)  # noqa: B905 - filler rows are left
  ]
  return answers, lengths


def _text(captioner, tokens, length) -> str:
  ids = tokens[:length].tolist()
  return captioner.format.tokenizer.decode(
    ids, skip_special_tokens=True
  ).strip()


def _batch(captioner, seen: Seen, asked) -> dict:
  rows = seen.visual.shape[0]
  batch = prompt_batches.make(captioner.format, seen.counts, asked, rows)
  placed = {name: _place(captioner, array) for name, array in batch.items()}
  return {"visual": seen.visual, **placed}
