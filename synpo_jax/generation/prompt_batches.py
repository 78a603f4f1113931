"""Questions about videos as token ids, and lengths that these are padded to."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from synpo_jax.data import padding, text
from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.data.chat_templates import Tokenizer
from synpo_jax.models.config import CaptionerConfig


class Format(NamedTuple):
  """How a question becomes tokens."""

  tokenizer: Tokenizer
  template: str  # a key of data.text.TEMPLATES
  config: CaptionerConfig
  prefix_buckets: int | tuple[int, ...]  # as `rung` takes them


def make(
  form: Format,
  question: list[str],
  count: int,
  times: Sequence[float] = (),
  size: tuple[int, int] | None = None,
) -> tuple[list[int], list[list[int]]]:
  """(prefix, tails): what a video's prompts have in common, and the rests.

  question: one, or one for each candidate. count: frames of the video. times:
  seconds to those that were sampled; the last is that of frames that fill the
  last step, too. size: of the frames, where it follows the video. Each tail has
  a token at least. Raises ValueError where questions come before the video and
  differ.
  """
  times = [*times, *times[-1:] * (count - len(times))]
  seen = dict(blocks=form.config.blocks(count, size), times=times)
  prompts = [
    text.prompt_ids(form.tokenizer, form.template, words, **seen)
    for words in question
  ]
  same = _shared(prompts)
  return prompts[0][:same], [ids[same:] for ids in prompts]


def _shared(row: list[list[int]]) -> int:
  """Tokens that all prompts begin with; each keeps one for itself."""
  least = min(map(len, row)) - 1
  columns = zip(*(ids[:least] for ids in row), strict=True)
  same = next((n for n, ids in enumerate(columns) if len(set(ids)) > 1), least)
  if any(min(ids[same:]) <= IMAGE_TOKEN for ids in row):
    raise ValueError("this template puts the question before the video")
  return same


def rung(length: int, steps: int | tuple[int, ...]) -> int:
  """The length that so many tokens are padded to; one of few.

  steps: ascending lengths, or a number that the lengths are these multiples
  of: 1, 2, 4, 8, 12, 16, 24, 32, 48 and so on. Raises ValueError for more
  tokens than the last of given lengths.
  """
  if not isinstance(steps, int):
    return int(padding.round_up(np.array([length]), steps)[0])
  wanted, times = -(-length // steps), 1
  while times < wanted:
    halfway = times >= 8 and times * 3 // 2 >= wanted
    times = times * 3 // 2 if halfway else 2 * times
  return times * steps


def left_padded(
  rows: list[list[int]], length: int
) -> tuple[Int[np.ndarray, "N P"], Bool[np.ndarray, "N P"]]:
  """(token ids, mask) of rows that end together."""
  ids = np.zeros((len(rows), length), np.int32)
  mask = np.zeros(ids.shape, bool)
  for n, row in enumerate(rows):
    if row:
      ids[n, length - len(row) :], mask[n, length - len(row) :] = row, True
  return ids, mask
