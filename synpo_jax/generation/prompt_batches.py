"""Questions about videos as arrays of token ids for `decode.generate`."""

from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from synpo_jax.data import batches, text
from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.models.config import CaptionerConfig


class Format(NamedTuple):
  """How a question becomes tokens."""

  tokenizer: PreTrainedTokenizerBase
  template: str  # a key of data.text.TEMPLATES
  config: CaptionerConfig
  prefix_buckets: int | tuple[int, ...]  # lengths that prompts are padded to


def make(
  how: Format, counts: list[int], asked: list[list[str]], rows: int
) -> dict[str, np.ndarray]:
  """prefix and prefix_mask [rows, P], left-padded, for B videos.

  counts: frames of each video. asked: one question for each video, or C of
  them; then the prefix is what a video's C prompts have in common, and tail,
  tail_mask [rows, C, Q] hold the rest of each. Rows behind B repeat the last.
  """
  prompts = [
    [_prompt(how, question, count) for question in row]
    for row, count in zip(asked, counts, strict=True)
  ]
  prompts += prompts[-1:] * (rows - len(prompts))
  shared = [_shared(row) for row in prompts]
  both = list(zip(prompts, shared, strict=True))
  prefix, mask = _padded(how, [row[0][:n] for row, n in both])
  batch = {"prefix": prefix, "prefix_mask": mask}
  if len(prompts[0]) > 1:
    padded = _padded(how, [ids[n:] for row, n in both for ids in row])
    tail, mask = (x.reshape(rows, -1, x.shape[1]) for x in padded)
    batch |= {"tail": tail, "tail_mask": mask}
  return batch


def _prompt(how, question, count) -> list[int]:
  blocks = how.config.blocks(count)
  return text.prompt_ids(how.tokenizer, how.template, question, blocks=blocks)


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


def _padded(how, rows: list[list[int]]):
  longest = np.array([max(map(len, rows))])
  P = int(batches.round_up(longest, how.prefix_buckets)[0])
  ids, mask = np.zeros((len(rows), P), np.int32), np.zeros((len(rows), P), bool)
  for n, row in enumerate(rows):
    ids[n, P - len(row) :], mask[n, P - len(row) :] = row, True
  return ids, mask
