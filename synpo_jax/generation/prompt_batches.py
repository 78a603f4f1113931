"""Questions about videos as arrays of token ids for `decode.generate`."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from synpo_jax.data import batches, text
from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.data.chat_templates import Tokenizer
from synpo_jax.generation.decode_loop import Prompts
from synpo_jax.models.config import CaptionerConfig


class Format(NamedTuple):
  """How a question becomes tokens."""

  tokenizer: Tokenizer
  template: str  # a key of data.text.TEMPLATES
  config: CaptionerConfig
  prefix_buckets: int | tuple[int, ...]  # lengths that prompts are padded to


def make(
  form: Format, counts: list[int], asked: list[list[str]], rows: int
) -> Prompts:
  """`rows` prompts for B videos, NumPy arrays without the videos themselves.

  counts: frames of each video. asked: one question for each video, or C of
  them; then the prefix is what a video's C prompts have in common, and the
  tails hold the rest of each. Rows behind B repeat the last.
  """
  prompts = [
    [_prompt(form, question, count) for question in row]
    for row, count in zip(asked, counts, strict=True)
  ]
  prompts += prompts[-1:] * (rows - len(prompts))
  shared = [_shared(row) for row in prompts]
  both = list(zip(prompts, shared, strict=True))
  made = Prompts(*_padded(form, [row[0][:n] for row, n in both]))
  if len(prompts[0]) == 1:
    return made
  padded = _padded(form, [ids[n:] for row, n in both for ids in row])
  tail, mask = (x.reshape(rows, -1, x.shape[1]) for x in padded)
  return made._replace(tail=tail, tail_mask=mask)


def _prompt(form, question, count) -> list[int]:
  blocks = form.config.blocks(count)
  return text.prompt_ids(form.tokenizer, form.template, question, blocks=blocks)


def _shared(row: list[list[int]]) -> int:
  """Tokens that all prompts of a row begin with; each keeps one for itself."""
  if len(row) == 1:
    return len(row[0])
  least = min(map(len, row)) - 1
  columns = zip(*(ids[:least] for ids in row), strict=True)
  same = next((n for n, ids in enumerate(columns) if len(set(ids)) > 1), least)
  if any(IMAGE_TOKEN in ids[same:] for ids in row):
    raise ValueError("this template puts the question before the video")
  return same


def _padded(form, rows: list[list[int]]):
  longest = np.array([max(map(len, rows))])
  return left_padded(
    rows, int(batches.round_up(longest, form.prefix_buckets)[0])
  )


def left_padded(
  rows: list[list[int]], length: int
) -> tuple[Int[np.ndarray, "N P"], Bool[np.ndarray, "N P"]]:
  """(token ids, mask) of rows that end together."""
  ids = np.zeros((len(rows), length), np.int32)
  mask = np.zeros(ids.shape, bool)
  for n, row in enumerate(rows):
    ids[n, length - len(row) :], mask[n, length - len(row) :] = row, True
  return ids, mask
