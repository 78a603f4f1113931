"""Which rows of captions grow when, and on which pages: host side, no JAX.

Rows grow together in blocks of few tokens, each at a step of its own. After
a block those that ended leave their places to rows that wait, so that whatever
is computed is needed, but for the rest of a row's last block. A row's tokens
depend on its video, its candidate's number and their place alone, so that it
does not matter with whom it grows.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

NARROWER = (1, 3 / 4, 1 / 2, 1 / 4, 1 / 8)  # where fewer rows grow than may
EXPECTED = 0.3  # of the most tokens: a row's length, before any has ended
DOUBT = 8  # rows that this guess counts for
AT_ONCE = 3 / 4  # of what all rows will need yet, as they do not end together


class Lengths(NamedTuple):
  """Tokens at most: of a prompt, and of what a candidate has of its own."""

  prompt: int
  tail: int


class Room(NamedTuple):
  """What there is room for; nothing else is ever held.

  rows: that grow at once. candidates: C, rows of a task. streams: 2 under
  contrast, else 1. most: tokens of a row. block: tokens that are grown between
  two looks, and of an own page. page: tokens of a prompt's page. prompt_pages,
  own_pages: how many there are. reads: tasks whose prompts are read together.
  """

  rows: int
  candidates: int
  streams: int
  most: int
  block: int
  page: int
  prompt_pages: int
  own_pages: int
  reads: int = 1

  def width(self, rows: int) -> int:
    """Rows that are computed where so many grow; one of few numbers."""
    units = self.rows / self.reads
    wide = (self.reads * math.ceil(units * part) for part in NARROWER)
    return min(width for width in wide if width >= rows)


@dataclasses.dataclass(eq=False)
class Task:
  """A video's C captions.

  content: what the device needs of it. prompts: tokens of each stream's, but
  for the tails. tails: tokens of each candidate's own prompt; its last one is
  read while the row grows.
  """

  content: Any
  prompts: list[int]
  tails: list[int]
  pages: list[list[int]] = dataclasses.field(default_factory=list)
  place: list[int] = dataclasses.field(default_factory=list)
  done: dict[int, "Grown"] = dataclasses.field(default_factory=dict)


class Grown(NamedTuple):
  """A caption: its tokens, the end among them, and their log-probs."""

  tokens: Int[np.ndarray, " R"]
  logps: Float[np.ndarray, " R"]


@dataclasses.dataclass(eq=False)
class Row:
  """One caption as it grows; tail, grown: pages of each stream, in order."""

  task: Task
  candidate: int
  age: int
  tail: list[list[int]]
  grown: list[list[int]]
  tokens: list[int] = dataclasses.field(default_factory=list)
  logps: list[float] = dataclasses.field(default_factory=list)


@runtime_checkable
class Device(Protocol):
  """What reads and grows, as `generation.engine.Engine` does."""

  def read(self, tasks: list[Task], rows: list[Row]) -> None:
    """Reads prompts into `task.pages`, sets `task.place`; reads tails."""

  def fill(
    self, rows: list[Row], width: int, pages: list[list[int]]
  ) -> tuple[list[list[int]], list[list[float]]]:
    """Tokens and log-probs of each row's next block.

    pages: where its keys go. A row ends with its first token of `ends`.
    """


class Field:
  """Rows that grow, rows that wait, and pages that are free."""

  def __init__(self, room: Room, ends: tuple[int, ...]):
    self.room, self.ends = room, set(ends)
    self.free_prompt = list(range(room.prompt_pages))[::-1]
    self.free_own = list(range(room.own_pages))[::-1]
    self.growing: list[Row] = []
    self.waiting: collections.deque[Row] = collections.deque()
    self.ages, self.tails = 0, 0  # own pages that tails of rows hold
    self.ended = DOUBT
    self.total = DOUBT * max(1.0, EXPECTED * room.most)

  def need(self, row: Row) -> int:
    """Own pages that a row is expected to take yet."""
    room, step = self.room, len(row.tokens)
    end = min(max(self.total / self.ended, step + 1), room.most)
    return room.streams * max(1, -(-int(end - step) // room.block))

  def _needed(self) -> float:
    return AT_ONCE * sum(map(self.need, self.growing))

  def _tail_pages(self, task: Task) -> list[int]:
    """Own pages of each candidate's tail, in one stream."""
    return [-(-(n - 1) // self.room.block) for n in task.tails]

  def takes(self, task: Task) -> bool:
    """Whether there are pages for a task's prompts and tails."""
    room = self.room
    prompt = sum(-(-n // room.page) for n in task.prompts)
    tails = room.streams * sum(self._tail_pages(task))
    whole = room.streams * -(-room.most // room.block)  # one row, to its end
    return (
      prompt <= len(self.free_prompt)
      and tails + self._needed() <= len(self.free_own)
      and self.tails + tails + whole <= room.own_pages
    )

  def enter(self, task: Task) -> list[Row]:
    """Gives a task its pages; its rows, which wait from now on."""
    room, rows = self.room, []
    task.pages = [
      [self.free_prompt.pop() for _ in range(-(-n // room.page))]
      for n in task.prompts
    ]
    for candidate, pages in enumerate(self._tail_pages(task)):
      tail = [
        [self.free_own.pop() for _ in range(pages)] for _ in range(room.streams)
      ]
      self.tails += room.streams * pages
      grown = [[] for _ in range(room.streams)]
      rows.append(Row(task, candidate, self.ages, tail, grown))
      self.ages += 1
    self.waiting.extend(rows)
    return rows

  def start(self) -> None:
    """Has rows that wait grow, as far as there are places and pages."""
    needed = self._needed()
    while self.waiting and len(self.growing) < self.room.rows:
      needed += AT_ONCE * self.need(self.waiting[0])
      if self.growing and needed > len(self.free_own):
        return
      self.growing.append(self.waiting.popleft())

  def make_space(self) -> None:
    """Has the youngest begin anew later where pages do not suffice for all."""
    self.growing.sort(key=lambda row: row.age)
    while self.room.streams * len(self.growing) > len(self.free_own):
      row = self.growing.pop()
      self.free_own += (page for pages in row.grown for page in pages)
      row.grown, row.tokens, row.logps = [[] for _ in row.grown], [], []
      self.waiting.appendleft(row)

  def grow(self, device: Device) -> list[Task]:
    """One block of all rows; the tasks that are done with it."""
    room, finished, stay = self.room, [], []
    given = [
      [self.free_own.pop() for _ in range(room.streams)] for _ in self.growing
    ]
    width = room.width(len(self.growing))
    new = device.fill(self.growing, width, given)
    both = zip(self.growing, *new, given, strict=True)
    for row, tokens, logps, pages in both:
      tokens = tokens[: room.most - len(row.tokens)]
      end = next((n for n, t in enumerate(tokens) if t in self.ends), None)
      count = len(tokens) if end is None else end + 1
      row.tokens += tokens[:count]
      row.logps += logps[:count]
      for stream, page in zip(row.grown, pages, strict=True):
        stream.append(page)
      if end is None and len(row.tokens) < room.most:
        stay.append(row)
      elif self._leave(row):
        finished.append(row.task)
    self.growing = stay
    return finished

  def _leave(self, row: Row) -> bool:
    """Takes an ended row's pages back; whether its task is done."""
    task = row.task
    self.tails -= sum(map(len, row.tail))
    self.free_own += (n for pages in (*row.tail, *row.grown) for n in pages)
    self.ended, self.total = self.ended + 1, self.total + len(row.tokens)
    logps = np.array(row.logps, np.float32)
    task.done[row.candidate] = Grown(np.array(row.tokens, np.int32), logps)
    if len(task.done) < len(task.tails):
      return False
    self.free_prompt += (page for pages in task.pages for page in pages)
    return True


def run(
  ahead: Callable[[], Task | None],
  device: Device,
  room: Room,
  ends: tuple[int, ...],
) -> Iterator[Task]:
  """Yields tasks as they are done: `task.done` holds captions by number.

  ahead: the next task, None while there is none; asked again whenever
  something was yielded. Raises ValueError for a task that no room is for even
  when nothing else is held.
  """
  field, held = Field(room, ends), None
  while True:
    field.start()
    while not field.waiting and len(field.growing) < room.rows:
      held = _read(field, device, held, ahead)
      if not field.waiting:
        break
      field.start()
    if not field.growing:
      if held is not None:
        raise ValueError(too_long(held, room))
      return
    field.make_space()
    yield from field.grow(device)


def _read(field, device, held, ahead) -> Task | None:
  """Reads up to `room.reads` tasks; the one that must wait for pages."""
  tasks, rows = [], []
  while len(tasks) < field.room.reads:
    task, held = held or ahead(), None
    if task is None:
      break
    if not field.takes(task):
      held = task
      break
    tasks.append(task)
    rows += field.enter(task)
  if tasks:
    device.read(tasks, rows)
  return held


def too_long(task: Task, room: Room) -> str:
  """Why a task cannot be held, and the way out."""
  tails = sum(task.tails) - len(task.tails)
  return (
    f"prompts of {sum(task.prompts)} + {tails} tokens and captions of "
    f"{room.most} do not fit what is planned for {room.rows} captions "
    f"({room.prompt_pages} pages of {room.page} and {room.own_pages} of "
    f"{room.block} positions): raise placing.batch_size, or parts"
  )
