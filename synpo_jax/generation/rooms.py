"""How many captions grow at once, and on how many pages."""

import math

from synpo_jax.data import prompts
from synpo_jax.generation import prompt_batches
from synpo_jax.generation.schedule import Lengths, Room

BLOCK, PAGE = 32, 128  # positions of a row's own page, and of a prompt's
FRAMES = 16  # of a video, where frame buckets have no end
FAR = 5999.9  # seconds from a video's start to a frame, as long to write as any
# What is held for each row, of the most that it may generate: so much of what
# it generates, and so much for a first answer in front of it. Where rows turn
# out longer, fewer grow at once.
GROWN, ANSWER = 0.35, 0.3
# Videos whose prompts are kept, for each whose captions would fill the rows:
# the last candidates of a video take longer than most.
KEPT = 1.75


def lengths(form: prompt_batches.Format, frame_buckets, ask) -> Lengths:
  """The longest that a run's prompts are expected to be.

  A longer one is read too; it takes the place of others.
  """
  step = form.config.frames_per_step
  frames = frame_buckets
  frames = FRAMES if isinstance(frames, int) else max(frames)
  count = -(-frames // step) * step

  def tokens(question):
    return len(prompt_batches.make(form, [question], count, [FAR])[0])

  first = tokens(ask.question)
  if not ask.retrospective:
    return Lengths(first, 0)
  words = prompts.retrospective("A", question=ask.question, caution=ask.caution)
  return behind(first, tokens(words), ask)


def behind(first: int, second: int, ask) -> Lengths:
  """Lengths where the second question brings a first answer.

  first, second: tokens of a prompt without and with all that the second pass
  adds, but for the answer.
  """
  if ask.candidates == 1:  # which has no tail: its prompt is all its own
    return Lengths(second + ask.max_new_tokens, 0)
  return Lengths(second, second - first + ask.max_new_tokens)


def plan(most: Lengths, mesh, batch_size: int, ask) -> Room:
  """Room for the captions of `batch_size` videos to grow at once.

  Raises ValueError for a batch size below 1.
  """
  if batch_size < 1:
    raise ValueError(
      f"placing.batch_size={batch_size}: give a number of videos"
    )
  shards = mesh.shape["data"] * mesh.shape["fsdp"]
  C, streams, R = ask.candidates, 1 + ask.contrast, ask.max_new_tokens
  rows = _whole(batch_size * C, shards)
  videos = rows // C if C == 1 else math.ceil(KEPT * rows / C)
  usual = most.prompt
  if C == 1 and ask.retrospective:  # the first answer is part of the prompt
    usual -= int((1 - ANSWER) * R)
  prompts_held = (videos + shards) * -(-usual // PAGE)
  prompts_held = max(prompts_held, shards * -(-most.prompt // PAGE))
  words = max(0, most.tail - R)
  held = rows * (GROWN * R + (most.tail > 0) * (words + ANSWER * R))
  least = shards * C * most.tail + R + rows * BLOCK
  own_pages = streams * (math.ceil(max(held, least) / BLOCK) + shards * C)
  return Room(
    rows=rows,
    candidates=C,
    streams=streams,
    most=R,
    block=BLOCK,
    page=PAGE,
    prompt_pages=_whole(streams * prompts_held, shards),
    own_pages=_whole(own_pages, shards),
    reads=shards,
  )


def _whole(count: int, shards: int) -> int:
  return -(-count // shards) * shards
