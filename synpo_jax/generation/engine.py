"""Reads the prompts of tasks and grows their rows on devices."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import UInt32

from synpo_jax.generation import pages as device
from synpo_jax.generation.decode_loop import Choice
from synpo_jax.generation.prompt_batches import left_padded, rung
from synpo_jax.generation.schedule import Lengths, Room, Row, Task
from synpo_jax.models import attention

BATCH = P(attention.BATCH_AXES)


class Content(NamedTuple):
  """What a task's rows are made of.

  prompts: token ids of each stream, but for the tails. tails: how each
  candidate goes on. visual: what the decoder reads of each stream's video,
  [M, D], or None. keys: of the video (`decode.row_keys`). weight: of its
  contrast. about: whatever else belongs to it.
  """

  prompts: list[list[int]]
  tails: list[list[int]]
  visual: list[jax.Array] | None
  keys: UInt32[np.ndarray, "2"]
  weight: float = 0.0
  about: Any = None


def task(content: Content) -> Task:
  """The task of a content."""
  prompts = [len(ids) for ids in content.prompts]
  return Task(content, prompts, [len(ids) for ids in content.tails])


class Engine:
  """A model with its pools of pages; computed counts rows times steps."""

  def __init__(
    self,
    model,
    variables,
    mesh,
    room: Room,
    choice: Choice,
    steps: int | tuple[int, ...],
    most: Lengths,
    quantised: bool = False,
  ):
    """steps: lengths that prompts are padded to, as `prompt_batches.rung`.

    most: lengths that are expected; what is longer is compiled for anew.
    """
    self.model, self.variables, self.mesh = model, variables, mesh
    self.room, self.choice, self.steps = room, choice, steps
    self.computed, self.tail_shape = 0, tail_shape(*most, room)
    self.prompts, self.own = pools(model, mesh, room, quantised)

  def read(self, tasks: list[Task], rows: list[Row]) -> None:
    """Reads prompts, sets `place` of tasks; then tails that are longer."""
    for stream in range(self.room.streams):
      self._read_stream(tasks, stream)
    if any(n > 1 for task in tasks for n in task.tails):
      tails = self._tails(tasks, rows)
      self.own = device.read_tails(
        self.model, self.variables, self.prompts, self.own, tails
      )

  def _read_stream(self, tasks, stream) -> None:
    room = self.room
    filled = tasks + tasks[-1:] * (room.reads - len(tasks))
    ids = [task.content.prompts[stream] for task in filled]
    length = rung(max(map(len, ids)), self.steps)
    tokens, mask = left_padded(ids, -(-length // room.page) * room.page)
    places = np.full(
      (room.reads, tokens.shape[1] // room.page), room.prompt_pages, np.int32
    )
    for row, task in zip(places, tasks, strict=False):
      _put_last(row, task.pages[stream])
    visual = None
    if tasks[0].content.visual is not None:
      visual = tuple(task.content.visual[stream] for task in filled)
    self.prompts, place = device.read_prompts(
      self.model,
      self.variables,
      self.prompts,
      *self._place((tokens, mask)),
      visual,
      places,
    )
    for task, at in zip(tasks, np.asarray(place).tolist(), strict=False):
      task.place.append(at)

  def _tails(self, tasks, rows) -> device.Tails:
    """Tails of all tasks and streams as arrays."""
    room, S, C = self.room, self.room.streams, self.room.candidates
    longest = [len(pages) for task in tasks for pages in task.pages]
    read = max(max(task.tails) for task in tasks) - 1
    wanted = tail_shape(room.page * max(longest), read, room)
    n, Q = self.tail_shape = (*map(max, self.tail_shape, wanted),)
    b = room.reads * S
    prompt = np.full((b, n), room.prompt_pages, np.int32)
    place = np.zeros(b, np.int32)
    pages = np.full((b, C, Q // room.block), room.own_pages, np.int32)
    texts = [[[] for _ in range(C)] for _ in range(b)]
    for t, task in enumerate(tasks):
      for s in range(S):
        _put_last(prompt[t * S + s], task.pages[s])
        place[t * S + s] = task.place[s]
    for number, row in enumerate(rows):
      t, c = divmod(number, C)
      for s in range(S):
        texts[t * S + s][c] = row.task.content.tails[row.candidate][:-1]
        _put_last(pages[t * S + s, c], row.tail[s])
    flat = left_padded([ids for row in texts for ids in row], Q)
    tokens, mask = (x.reshape(b, C, Q) for x in flat)
    return device.Tails(prompt, tokens, mask, place, pages)

  def fill(
    self, rows: list[Row], width: int, pages: list[list[int]]
  ) -> tuple[list[list[int]], list[list[float]]]:
    """Tokens and log-probs of the next block of each row; keys go to `pages`.

    A log-prob is that of the token at temperature 1, without filters.
    """
    room, S = self.room, self.room.streams
    target = np.full((width * S, 1), room.own_pages, np.int32)
    target[: len(rows) * S, 0] = np.array(pages, np.int32).reshape(-1)
    self.own, *new, steps = device.fill(
      self.model,
      self.variables,
      self.prompts,
      self.own,
      readers(rows, room, width),
      self._place(arrays(rows, room, width)),
      target,
      room.block,
      self.choice,
    )
    self.computed += width * int(steps)
    tokens, logps = (np.asarray(x)[: len(rows)].tolist() for x in new)
    return tokens, logps

  def _place(self, arrays):
    """Rows over the devices, where they divide."""
    if self.mesh is None or self.mesh.size == 1:
      return arrays
    return jax.device_put(arrays, NamedSharding(self.mesh, BATCH))


def tail_shape(prompt: int, tail: int, room: Room) -> tuple[int, int]:
  """Pages of a prompt and positions of a tail that tails are read with."""
  pages = rung(-(-prompt // room.page), 4)
  return pages, rung(max(tail, 1), device.TAIL_STEP)


def pools(model, mesh, room: Room, quantised: bool):
  """The pages of prompts and those of rows, empty, in their places."""
  return tuple(
    jax.jit(
      partial(device.empty, model, count, size, quantised),
      out_shardings=places(model, mesh, count, quantised),
    )()
    for count, size in (
      (room.prompt_pages, room.page),
      (room.own_pages, room.block),
    )
  )


def places(model, mesh, pages: int, quantised: bool):
  """Where a pool lies: pages over `data` and `fsdp`, heads over `model`."""
  if mesh is None:
    return None
  shape = mesh.shape
  spread = None if pages % (shape["data"] * shape["fsdp"]) else BATCH[0]
  heads = None if model.config.decoder.kv_heads % shape["model"] else "model"
  kinds = P(None, spread, None, heads), P(spread)
  keys, facts = (NamedSharding(mesh, kind) for kind in kinds)
  scales = keys if quantised else None
  return device.Pages(keys, keys, scales, scales, facts, facts, None)


def _put_last(row, pages) -> None:
  """Pages of what is padded on the left."""
  if pages:
    row[-len(pages) :] = pages


def readers(rows: list[Row], room: Room, width: int) -> device.Readers:
  """Who reads which page."""
  S, nobody = room.streams, width * room.streams
  prompts = np.full((room.prompt_pages, room.candidates), nobody, np.int32)
  own = np.full((room.own_pages, 1), nobody, np.int32)
  for n, row in enumerate(rows):
    for s in range(S):
      prompts[row.task.pages[s], row.candidate] = n * S + s
      own[row.tail[s] + row.grown[s]] = n * S + s
  return device.Readers(prompts, own)


def arrays(rows: list[Row], room: Room, width: int) -> device.Rows:
  """What the device knows of rows, filled up with rows that are done."""
  out = device.Rows(
    token=np.zeros(width, np.int32),
    done=np.ones(width, bool),
    place=np.ones((width, room.streams), np.int32),
    step=np.zeros(width, np.int32),
    candidate=np.zeros(width, np.int32),
    keys=np.zeros((width, 2), np.uint32),
    weight=np.zeros(width, np.float32),
  )
  for n, row in enumerate(rows):
    content, tail = row.task.content, row.task.content.tails[row.candidate]
    out.token[n] = row.tokens[-1] if row.tokens else tail[-1]
    out.done[n], out.step[n] = False, len(row.tokens)
    out.place[n] = np.array(row.task.place) + len(tail)
    out.candidate[n], out.weight[n] = row.candidate, content.weight
    out.keys[n] = content.keys
  return out
