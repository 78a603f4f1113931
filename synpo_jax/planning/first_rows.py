"""The first rows of a run, as its model will see them, on a page."""

import html
import itertools
import json
import pathlib
import tempfile
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from synpo_jax import losses
from synpo_jax.data import files, packing, pipeline, rows, text, video
from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.models import seeing
from synpo_jax.reporting import opening
from synpo_jax.weights import config_reading

MOST, LOOKED_AT = 3, 100
STYLE = """
body{font:15px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}
img{max-width:100%}.p{color:#666}.s{background:#d8f0dc;border-radius:2px}
.v{background:#dde6f7;color:#333;padding:0 .4em}p{overflow-wrap:anywhere}
p span{white-space:pre-wrap}
"""


class Shown(NamedTuple):
  """A row in tokens: text of each of the prompt and of each caption.

  visual: positions of the prompt that the video takes. names: what each
  caption is. frames: as the tower gets them, or None.
  """

  id: str
  prompt: list[str]
  visual: int
  captions: list[list[str]]
  names: list[str]
  frames: UInt8[np.ndarray, "F Y X 3"] | None


def look(c) -> list[Shown]:
  """The first rows that a training config's run would use, MOST at most.

  Their videos are decoded, into nothing that stays. Raises ValueError or
  OSError, one line, where none of the first LOOKED_AT can be used.
  """
  sizes = c.model.checkpoint or c.model.arch.to_dict()
  config = config_reading.captioner_config(sizes)
  if c.model.kept_ratio is not None and config.tower is not None:
    config = config.with_kept_ratio(c.model.kept_ratio)
  tokenizer = text.load_tokenizer(c.model.tokenizer or c.model.checkpoint)
  config = seeing.follow(config, c.pixels.to_dict())
  with tempfile.TemporaryDirectory() as temp:
    few = pathlib.Path(temp, "rows.jsonl")
    few.write_text("".join(f"{json.dumps(row)}\n" for row in _first(c)))
    changes = dict(pairs=str(few), cache=f"{temp}/cache", workers=0)
    changes |= dict(packing=0)
    data = pipeline.make(
      pipeline.Settings(**c.data.to_dict() | changes),
      rule=video.FrameRule(**c.frames),
      preprocess=seeing.preprocess(config, c.pixels.to_dict()),
      tokenizer=tokenizer,
      blocks=config.blocks if config.tower else lambda *_: [],
      captions=losses.make(**c.loss.to_dict()).captions,
      epochs=1,
      seed=c.seed,
      frames_per_step=config.frames_per_step,
    )
    return [_shown(data, number, tokenizer) for number in range(_most(data))]


def _most(data) -> int:
  return min(MOST, len(data.batches.rows.pair))


def _first(c) -> list[dict]:
  """Rows as the files hold them, from the first whose scores are far apart."""
  captions = losses.make(**c.loss.to_dict()).captions
  gap = c.data.min_score_gap
  scored = captions > 1 and gap is not None
  streams = (files.stream(file) for file in files.find(c.data.pairs))
  found = []
  every = itertools.chain.from_iterable(streams)
  for _, held in itertools.islice(every, LOOKED_AT):
    try:
      pair = rows.read(held, c.data.question, captions, scored).pair
    except rows.Fault:  # said of the pairs
      continue
    if not scored or pair.chosen_score - pair.rejected_score >= gap:
      found.append(held)
    if len(found) == MOST:
      break
  if not found:
    raise ValueError(
      f"{c.data.pairs}: none of its first {LOOKED_AT} rows would be used"
    )
  return found


def _shown(data, number: int, tokenizer) -> Shown:
  held = data.batches.rows
  prompt = held.prefix[number].tolist()
  words = [id_ for id_ in prompt if id_ > IMAGE_TOKEN]
  first, names = number * held.captions, _names(held, number)
  captions = range(first, first + len(names))
  clip = int(held.video[number])
  return Shown(
    data.pairs[int(held.pair[number])].id,
    _pieces(prompt, tokenizer),
    len(prompt) - len(words),
    [_pieces(held.response[n].tolist(), tokenizer) for n in captions],
    names,
    data.frames(clip) if clip >= 0 else None,
  )


def _names(held, number: int) -> list[str]:
  """What the captions of a row are; lists end with captions of no token."""
  if held.scores is None:
    return ["chosen", "rejected", "reference"][: held.captions]
  there = held.response.lengths().reshape(-1, held.captions)[number] > 0
  return [f"{score:g} above the worst" for score in held.scores[number][there]]


def _pieces(ids: list[int], tokenizer) -> list[str]:
  """The text of each token; a run of visual ones is their number."""
  found = []
  for is_visual, run in itertools.groupby(ids, lambda id_: id_ <= IMAGE_TOKEN):
    run = list(run)
    if is_visual:
      found.append(f"[{len(run)} visual]")
    else:
      found += [tokenizer.decode([id_]) for id_ in run]
  return found


def describe(row: Shown) -> str:
  """A row in a line."""
  captions = " and ".join(str(len(caption)) for caption in row.captions)
  frames = "no video" if row.frames is None else f"{len(row.frames)} frames"
  return (
    f"row {row.id}: {frames}, a prompt of {row.visual} visual and "
    f"{_words(row)} text tokens, captions of {captions}, every one of them "
    "supervised"
  )


def _words(row: Shown) -> int:
  """Tokens of its prompt that are text."""
  return sum(not piece.endswith(" visual]") for piece in row.prompt)


def share(shown: list[Shown], length: int) -> str:
  """How many of such rows share one of `length` positions, in words.

  Raises ValueError for one that takes more.
  """
  sizes = []
  for row in shown:
    size = row.visual + _words(row) + sum(map(len, row.captions))
    packing.check_fits(length, size, row.id)
    sizes.append(size)
  mean = sum(sizes) / len(sizes)
  return (
    f"the first {len(sizes)} pairs take {mean:.0f} positions on average, about "
    f"{length / mean:.1f} of them in a row of {length}"
  )


def page(shown: list[Shown]) -> str:
  """The rows as HTML; what is supervised has a green ground."""
  parts = [f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>"]
  parts.append("<h1>The first rows, as the model will see them</h1>")
  for row in shown:
    parts.append(f"<h2>{html.escape(row.id)}</h2>")
    if row.frames is not None:
      strip = np.concatenate(list(row.frames), axis=1)
      parts.append(f'<img src="{opening.data_uri(strip)}" alt="frames">')
    parts.append(f"<p>{_spans(row.prompt, 'p')}</p>")
    for name, caption in zip(row.names, row.captions, strict=True):
      parts.append(f"<p><b>{name}</b> {_spans(caption, 's')}</p>")
  return "\n".join(parts) + "\n"


def _spans(pieces: list[str], kind: str) -> str:
  return "".join(
    f'<span class="{"v" if piece.endswith(" visual]") else kind}">'
    f"{html.escape(piece)}</span>"
    for piece in pieces
  )
