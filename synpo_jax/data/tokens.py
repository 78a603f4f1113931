"""Pairs to token rows: prompts, captions, and what is done when too long."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from synpo_jax.data import text, token_rows
from synpo_jax.data.chat_templates import Tokenizer
from synpo_jax.data.pairs import Pair

# What may happen to a row, in words for the summary of a run.
PROMPT_TOO_LONG = "dropped: prompt leaves no room for a caption"
CAPTION_TOO_LONG = "dropped: caption too long"
SHORTENED = "captions shortened"
ALIKE = "dropped: captions alike once shortened"
SAME = "dropped: captions alike but for spaces or Unicode forms"


class Limits(NamedTuple):
  """Room for tokens, and what happens to captions that need more.

  max_len: positions of prompt and caption together, visual ones included.
  prefix, response: longest bucket of each, None where there is no longest.
  too_long: `drop` the row or `shorten` the caption; its end stays supervised.
  """

  max_len: int
  prefix: int | None
  response: int | None
  too_long: Literal["drop", "shorten"]

  def room(self, prefix: int) -> int:
    """Longest response, its end included, beside a prefix; may be < 1."""
    if self.prefix is not None and prefix > self.prefix:
      return 0
    room = self.max_len - prefix
    return room if self.response is None else min(room, self.response)


def tokenise(
  pairs: Sequence[Pair],
  videos: Sequence[int],
  frames: Sequence[int],
  *,
  tokenizer: Tokenizer,
  template: str,
  blocks: Callable[[int], list[int]],
  captions: int,
  limits: Limits,
  times: Sequence[Sequence[float]] = (),
) -> tuple[token_rows.Rows, Counter, dict[int, str]]:
  """Tokens of all pairs that fit; how many were shortened or dropped, and why;
  and why of each pair that was dropped, by its number.

  videos, frames: of each pair, the number of its video (-1: none) and its
  frames. blocks: visual embeddings per block for a number of frames. times:
  of each pair, the seconds to each frame, where the template tells them.
  """
  if limits.too_long not in ("drop", "shorten"):
    raise ValueError(f"too_long={limits.too_long!r}: choose drop or shorten")
  if not text.tells_time(template):
    times = [()] * len(pairs)
  prompts = _prompts(pairs, frames, times, tokenizer, template, blocks)
  responses = _responses(pairs, tokenizer, template, captions)
  kept, dropped, cut = [], {}, 0
  for number, (prefix, answers) in enumerate(
    zip(prompts, responses, strict=True)
  ):
    alike = _alike(pairs[number], answers)
    room = limits.room(len(prefix))
    fitted = SAME if alike else _fit(answers, room, limits.too_long)
    if isinstance(fitted, str):
      dropped[number] = fitted
    else:
      kept.append((number, prefix, fitted))
      cut += sum(len(answer) > room for answer in answers)
  chosen = np.array([number for number, _, _ in kept], np.int64)
  rows = token_rows.Rows(
    prefix=token_rows.ragged([prefix for _, prefix, _ in kept]),
    response=token_rows.ragged([a for _, _, answers in kept for a in answers]),
    pair=chosen,
    video=np.asarray(videos, np.int64)[chosen],
    frames=np.asarray(frames, np.int64)[chosen],
    captions=captions,
  )
  counts = Counter(dropped.values()) + Counter({SHORTENED: cut})
  return rows, counts, dropped


def _prompts(pairs, frames, times, tokenizer, template, blocks):
  """Prompt ids of each pair; many share theirs, so each is made once."""
  known, prompts = {}, []
  for pair, count, seconds in zip(pairs, frames, times, strict=True):
    key = (pair.question, pair.history, count, tuple(seconds))
    if key not in known:
      try:
        known[key] = text.prompt_ids(
          tokenizer,
          template,
          pair.question,
          blocks=blocks(count) if count else [],
          history=pair.history,
          times=seconds,
        )
      except ValueError as error:
        raise ValueError(f"row {pair.id!r}: {error}") from error
    prompts.append(known[key])
  return prompts


def _responses(pairs, tokenizer, template, captions) -> list[list[list[int]]]:
  """Captions of each pair: chosen, rejected, gold."""
  end = text.end_id(tokenizer, template)
  texts = [c for p in pairs for c in (p.chosen, p.rejected, p.gold)[:captions]]
  ids = text.response_ids(tokenizer, texts, end)
  return [ids[i : i + captions] for i in range(0, len(ids), captions)]


def _alike(pair: Pair, answers: list[list[int]]) -> bool:
  """Whether chosen and rejected are the same tokens, or read the same."""
  if len(answers) < 2:
    return False
  return answers[0] == answers[1] or _plain(pair.chosen) == _plain(
    pair.rejected
  )


def _plain(caption: str) -> str:
  """The caption in one Unicode form, with single spaces; lines stay."""
  return re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFC", caption)).strip()


def _fit(answers, room: int, too_long: str) -> list | str:
  """The answers, cut to the room if need be, or why the row must go.

  A cut keeps the end token, and at least one token before it.
  """
  if all(len(answer) <= room for answer in answers):
    return answers
  if room < 2:
    return PROMPT_TOO_LONG
  if too_long == "drop":
    return CAPTION_TOO_LONG
  cut = [a if len(a) <= room else a[: room - 1] + a[-1:] for a in answers]
  if len(cut) > 1 and cut[0] == cut[1]:
    return ALIKE
  return cut
