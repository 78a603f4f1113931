"""Pairs to token rows: prompts, captions, and what is done when too long."""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from synpo_jax.data import lists, text, token_rows
from synpo_jax.data.chat_templates import Tokenizer
from synpo_jax.data.pairs import Pair

# What may happen to a row, in words for the summary of a run.
PROMPT_TOO_LONG = "dropped: prompt leaves no room for a caption"
CAPTION_TOO_LONG = "dropped: caption too long"
SHORTENED = "captions shortened"
ALIKE = "dropped: captions alike once shortened"
SAME = "dropped: captions alike but for spaces or Unicode forms"
FEW = "dropped: too few captions of the list fit, differ and are apart"
LEFT_OUT = "captions of lists left out: too long, or alike"


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
  blocks: Callable[..., list],
  captions: int,
  limits: Limits,
  times: Sequence[Sequence[float]] = (),
  sizes: Sequence[tuple[int, int] | None] = (),
  least_gap: float | int | None = None,
) -> tuple[token_rows.Rows, Counter, dict[int, str]]:
  """Tokens of all pairs that fit; how many were shortened or dropped, and why;
  and why of each pair that was dropped, by its number.

  videos, frames: of each pair, the number of its video (-1: none) and its
  frames. blocks: visual embeddings per block for a number of frames. times:
  of each pair, the seconds to each frame, where the template tells them. sizes:
  of each pair's frames, where they follow the video; blocks takes it, too.
  least_gap: between the best and the worst of a list that stays; None: any.
  """
  if limits.too_long not in ("drop", "shorten"):
    raise ValueError(f"too_long={limits.too_long!r}: choose drop or shorten")
  if not text.tells_time(template):
    times = [()] * len(pairs)
  seen = frames, times, sizes or [None] * len(pairs)
  prompts = _prompts(pairs, seen, tokenizer, template, blocks)
  responses = _responses(pairs, tokenizer, template, captions)
  kept, dropped, done = [], {}, Counter()
  for number, (prefix, answers) in enumerate(
    zip(prompts, responses, strict=True)
  ):
    pair, room = pairs[number], limits.room(len(prefix))
    if captions == lists.MOST:
      given = pair.listed, answers, room, limits.too_long, least_gap
      fitted = _fit_list(*given)
    else:
      alike = _alike(pair, answers)
      fitted = SAME if alike else _fit(answers, room, limits.too_long)
    if isinstance(fitted, str):
      dropped[number] = fitted
      continue
    kept.append((number, prefix, fitted))
    if limits.too_long == "shorten":
      done[SHORTENED] += sum(len(answer) > room for answer in answers)
    done[LEFT_OUT] += len(answers) - len(fitted)
  rows = _rows(kept, videos, frames, captions)
  return rows, Counter(dropped.values()) + done, dropped


def _rows(kept, videos, frames, captions) -> token_rows.Rows:
  """What fits, with lists padded to the longest by captions without a token."""
  chosen = np.array([number for number, _, _ in kept], np.int64)
  answers, scores = [answers for _, _, answers in kept], None
  if captions == lists.MOST:
    captions = max(map(len, answers), default=lists.FEWEST)
    scores = np.zeros((len(kept), captions), np.float32)
    for row, found in enumerate(answers):
      scores[row, : len(found)] = [score for _, score in found]
    answers = [[answer for answer, _ in found] for found in answers]
    answers = [found + [[]] * (captions - len(found)) for found in answers]
  return token_rows.Rows(
    prefix=token_rows.ragged([prefix for _, prefix, _ in kept]),
    response=token_rows.ragged([a for found in answers for a in found]),
    pair=chosen,
    video=np.asarray(videos, np.int64)[chosen],
    frames=np.asarray(frames, np.int64)[chosen],
    captions=captions,
    scores=scores,
  )


def _prompts(pairs, seen, tokenizer, template, blocks):
  """Prompt ids of each pair; many share theirs, so each is made once."""
  known, prompts = {}, []
  for pair, count, seconds, size in zip(pairs, *seen, strict=True):
    key = (pair.question, pair.history, count, tuple(seconds), size)
    visual = (count,) if size is None else (count, size)
    if key not in known:
      try:
        known[key] = text.prompt_ids(
          tokenizer,
          template,
          pair.question,
          blocks=blocks(*visual) if count else [],
          history=pair.history,
          times=seconds,
        )
      except ValueError as error:
        raise ValueError(f"row {pair.id!r}: {error}") from error
    prompts.append(known[key])
  return prompts


def _responses(pairs, tokenizer, template, captions) -> list[list[list[int]]]:
  """Captions of each pair: chosen, rejected, gold; or all of its list."""
  end = text.end_id(tokenizer, template)
  texts = [_texts(pair, captions) for pair in pairs]
  ids = iter(text.response_ids(tokenizer, [c for t in texts for c in t], end))
  return [list(itertools.islice(ids, len(own))) for own in texts]


def _texts(pair: Pair, captions: int) -> Sequence[str]:
  """The captions of a pair that a loss reads."""
  if captions == lists.MOST:
    return pair.listed.captions
  return (pair.chosen, pair.rejected, pair.gold)[:captions]


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
  cut = [_cut(answer, room) for answer in answers]
  if len(cut) > 1 and cut[0] == cut[1]:
    return ALIKE
  return cut


def _cut(answer: list[int], room: int) -> list[int]:
  return answer if len(answer) <= room else answer[: room - 1] + answer[-1:]


def _fit_list(
  listed: lists.Listed, answers, room: int, too_long: str, least: float | None
) -> list[tuple[list[int], float]] | str:
  """Captions of a list that fit and differ, and how far above the worst.

  Of those alike in tokens or in words the best stays. Or why the row must go.
  """
  if room < 2:
    return PROMPT_TOO_LONG
  if too_long == "shorten":
    answers = [_cut(answer, room) for answer in answers]
  stay, seen = [], set()
  for answer, caption, score in zip(answers, *listed, strict=True):
    same = {tuple(answer), _plain(caption)}
    if len(answer) <= room and not same & seen:
      stay.append((answer, score))
    seen |= same
  gap = stay[0][1] - stay[-1][1] if stay else 0.0
  if not gap > 0 or least is not None and gap < least:
    return FEW
  return [(answer, score - stay[-1][1]) for answer, score in stay]
