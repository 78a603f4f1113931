"""From frames and a question to captions: tasks of two passes, contrast."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8

from synpo_jax.data import video
from synpo_jax.generation import (
  decode,
  engine,
  footprint,
  pages,
  prompt_batches,
  rooms,
  schedule,
  shots,
)
from synpo_jax.generation.decode_loop import Choice
from synpo_jax.generation.engine import Content
from synpo_jax.generation.sampling import Sampling, check
from synpo_jax.generation.schedule import Task
from synpo_jax.generation.shots import Ask, Captioned, Shot, Text
from synpo_jax.models import sharding
from synpo_jax.models.captioner import Captioner


class Writer(NamedTuple):
  """A captioner in its place, and how captions are grown by it.

  batch_size: videos whose captions grow at once; see `rooms.plan`.
  """

  model: Captioner
  variables: dict
  format: prompt_batches.Format
  eos_ids: tuple[int, ...]
  mesh: jax.sharding.Mesh
  pixels: video.Preprocess
  batch_size: int
  frame_buckets: int | tuple[int, ...]
  int8_keys: bool  # and values

  def prepare(
    self, picture: UInt8[np.ndarray, "y x 3"], count: int
  ) -> UInt8[np.ndarray, "Y X 3"]:
    """A frame as the captioner wants it, of `count` of a shot."""
    return video.preprocess(picture, self.pixels, count)

  def write(self, wanted: Iterable[Shot], ask: Ask) -> Iterator[Captioned]:
    """Yields the captions of every shot, in the order of the shots."""
    order, done = collections.deque(), {}

    def noted():
      for shot in wanted:
        order.append((shot.id, shot.part))
        yield shot

    for key, texts in _written(self, noted(), ask):
      done[key] = texts
      while order and order[0] in done:
        first = order.popleft()
        yield Captioned(*first, done.pop(first))


@dataclasses.dataclass(eq=False)
class About:
  """What is known of a shot on its way through both passes."""

  key: tuple
  name: str
  counts: list[int]  # frames of each stream
  sizes: list[tuple[int, int] | None]  # of them, where they follow the video
  times: list[Sequence[float]]  # seconds to those that were sampled
  first: list[str] | None = None  # answers of the first pass
  tokens: np.ndarray | int = 0  # that it took


def _written(writer, wanted: Iterator[Shot], ask: Ask):
  """Yields (key, texts) of shots as they are done."""
  grower = grower_for(writer, ask)
  again = collections.deque()  # tasks of second passes, before new ones

  def ahead() -> Task | None:
    if not again:
      again.extend(first_tasks(writer, wanted, ask, grower.room.reads))
    return again.popleft() if again else None

  for task in schedule.run(ahead, grower, grower.room, writer.eos_ids):
    about = task.content.about
    answers, lengths = _texts(writer, task)
    if ask.retrospective and about.first is None:
      about.first, about.tokens = answers, lengths
      again.appendleft(_second_task(writer, task, ask))
      continue
    first = answers if about.first is None else about.first
    tokens = (about.tokens + lengths).tolist()
    cells = zip(first, answers, tokens, strict=True)
    yield about.key, [Text(*cell) for cell in cells]


def grower_for(writer: Writer, ask: Ask) -> engine.Engine:
  """What grows the captions that are asked for, as many at once as fit.

  Raises ValueError for settings that make no sense, and where memory does not
  suffice for one video's.
  """
  sampling = Sampling(ask.temperature, ask.top_k, ask.top_p)
  check(sampling)
  choice = Choice(sampling, writer.eos_ids, ask.contrast_cutoff)
  frames, steps = writer.frame_buckets, writer.format.prefix_buckets
  most = rooms.lengths(writer.format, frames, ask)
  frames = rooms.FRAMES if isinstance(frames, int) else max(frames)
  place = writer.model, writer.variables, writer.mesh
  room = footprint.fitting(
    footprint.Plan(*place, choice, steps, frames, writer.int8_keys),
    most,
    lambda videos: rooms.plan(most, writer.mesh, videos, ask),
    writer.batch_size,
    footprint.usable(writer.mesh),
  )
  return engine.Engine(*place, room, choice, steps, most, writer.int8_keys)


def _texts(writer, task) -> tuple[list[str], np.ndarray]:
  """A task's answers, and how many tokens each took."""
  rows = [task.done[c].tokens for c in range(len(task.tails))]
  decode_ids = partial(writer.format.tokenizer.decode, skip_special_tokens=True)
  texts = [decode_ids(ids.tolist()).strip() for ids in rows]
  return texts, np.array([len(ids) for ids in rows])


def first_tasks(writer, wanted, ask: Ask, count: int) -> list[Task]:
  """The first passes of the next shots, whose frames are looked at together."""
  group = list(itertools.islice(wanted, count))
  if not group:
    return []
  if ask.contrast and any(shot.weak is None for shot in group):
    name = next(shot.name for shot in group if shot.weak is None)
    raise ValueError(f"{name}: contrast needs the shot's weak frames")
  streams = [_see(writer, [shot.frames for shot in group], count)]
  if ask.contrast:
    streams.append(_see(writer, [shot.weak for shot in group], count))
  tasks = []
  for n, shot in enumerate(group):
    visual = [seen[n] for seen, _ in streams]
    about = About(
      (shot.id, shot.part),
      shot.name,
      [counts[n] for _, counts in streams],
      [
        clip.shape[1:3] if writer.model.config.follow else None
        for clip in (shot.frames, shot.weak)[: len(streams)]
      ],
      [shot.times, shot.weak_times][: len(streams)],
    )
    weight = ask.contrast_weight * shots.has_contrast(shot)
    question = [ask.question] * ask.candidates
    tasks.append(_task(writer, about, visual, question, ask, weight))
  return tasks


def _second_task(writer, task: Task, ask: Ask) -> Task:
  """The second pass of a shot, behind its first answers."""
  about, old = task.content.about, task.content
  question = [shots.again(answer, ask) for answer in about.first]
  return _task(writer, about, old.visual, question, ask, old.weight)


def _task(writer, about: About, visual, question, ask, weight) -> Task:
  name = about.name if about.first is None else f"{about.name} again"
  made = [
    prompt_batches.make(writer.format, question, *stream)
    for stream in zip(about.counts, about.times, about.sizes, strict=True)
  ]
  [keys] = np.asarray(decode.key_data(ask.seed, [name]))
  return engine.task(
    Content(
      [prefix for prefix, _ in made], made[0][1], visual, keys, weight, about
    )
  )


def _see(writer, clips, rows: int):
  """(embeddings [M, D] of each clip, frames of each).

  Clips of one size are looked at together.
  """
  seen, counts = [None] * len(clips), [0] * len(clips)
  for size in sorted({clip.shape[1:3] for clip in clips}):
    alike = [n for n, clip in enumerate(clips) if clip.shape[1:3] == size]
    found = _look(writer, [clips[n] for n in alike], rows)
    for n, visual, count in zip(alike, *found, strict=False):
      seen[n], counts[n] = visual, count
  return seen, counts


def _look(writer, clips, rows: int):
  config, buckets = writer.model.config, writer.frame_buckets
  wanted = [shots.frame_bucket(config, buckets, len(clip)) for clip in clips]
  filled = clips + clips[-1:] * (rows - len(clips))
  frames, counts = shots.stack(
    filled, rows, max(wanted), config.frames_per_step
  )
  placed = jax.device_put(frames, sharding.rows_sharding(writer.mesh))
  length = None
  if config.follow or not isinstance(buckets, int):
    longest = max(wanted) if isinstance(buckets, int) else max(buckets)
    length = config.room(longest)
  visual = pages.look(writer.model, writer.variables, placed, length)
  return visual[: len(clips)], counts[: len(clips)]
