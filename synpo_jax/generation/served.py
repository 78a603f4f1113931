"""Captions by a model behind an endpoint: the recipe of `captioning`, asked.

The requests of several shots are under way at a time, in a thread of their own,
while the shots to come are read. Every answer is kept in a file as it comes, so
that no run asks for what an earlier one was told.
"""

import asyncio
import collections
import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from synpo_jax.endpoints import calling, paid, thoughts
from synpo_jax.generation import serving, shots, shown
from synpo_jax.generation.serving import CAPTIONER, Serving
from synpo_jax.generation.shots import Ask, Captioned, Served, Shot, Text
from synpo_jax.runtime import journal, journal_rows
from synpo_jax.runtime.settings import digest

GRACE = 5.0  # seconds that requests under way have when an error ends the work
AHEAD = 2  # shots under way for each request that may be
LETTERS = 64  # of a caption to each token it may have, at most


class Unusable(Exception):
  """A shot has no caption; args: why."""


@dataclasses.dataclass
class Writer:
  """A served model, asked for captions as captioning.Writer is.

  endpoint: its address. cache: JSONL of its answers, made when it is not there.
  others: further ones, of other processes, that are read as well.
  lost: told the id of a shot that no caption comes of, and why.
  fingerprint: of the system that wrote the captions so far; "" where it gives
  none, None where there are no captions.
  """

  endpoint: str
  how: Serving
  cache: Path
  lost: Callable[[str, str], None]
  fingerprint: str | None = None
  others: tuple[Path, ...] = ()
  usage: paid.Usage = paid.Usage()

  def prepare(
    self, picture: UInt8[np.ndarray, "y x 3"], count: int
  ) -> UInt8[np.ndarray, "Y X 3"]:
    """A frame as it is sent."""
    return shown.smaller(picture, self.how.side)

  def cost(self) -> str:
    """What it took so far, in a few words."""
    return paid.cost(self.usage, self.how.prices)

  def write(self, wanted: Iterable[Shot], ask: Ask) -> Iterator[Captioned]:
    """Yields the captions of every shot that gets some, in order.

    Raises ValueError when the server cannot be used, or is another one.
    """
    answers = journal.extend(self.cache, "key", on_disk=True)
    with answers as (rows, append):
      endpoint = calling.connect(
        CAPTIONER,
        base_url=self.endpoint,
        model=self.how.model,
        key="",
        schema="none",
        **self.how.treatment(),
      )
      read = (journal_rows.Rows(path, "key") for path in self.others)
      held = paid.replies(collections.ChainMap(rows, *read), append)
      job = Job(endpoint, held, self, ask, self.how.concurrency)
      with _beside(job) as submit:
        for key, texts in _in_order(job, submit, wanted):
          self.usage = held.usage()
          if isinstance(texts, str):
            self.lost(key[0], texts)
          else:
            yield Captioned(*key, texts)


class Job:
  """What the requests of one `write` share."""

  def __init__(self, endpoint, held, writer, ask, concurrency):
    self.endpoint: calling.Endpoint = endpoint
    self.held: paid.Replies = held
    self.writer: Writer = writer
    self.ask: Ask = ask
    self.room = asyncio.Semaphore(concurrency)
    self.stopped = False

  def check_system(self, told: str) -> None:
    """Raises ValueError for an answer of another system than those so far."""
    known = self.writer.fingerprint
    if known is None:
      self.writer.fingerprint = told
    elif told != known and self.writer.how.one_fingerprint:
      raise ValueError(
        f"captioner: {self.endpoint.url} answers with system_fingerprint "
        f"{told!r}, captions so far are by {known!r}; put that server back, "
        "write elsewhere, or set serving.one_fingerprint=False"
      )


class Said(NamedTuple):
  """One answer that is a caption."""

  text: str
  tokens: int
  fingerprint: str


def _in_order(job, submit, wanted) -> Iterator[tuple]:
  """((id, part), texts or why there are none) of each shot."""
  how, waiting = job.writer.how, collections.deque()
  for shot in wanted:
    key = (shot.id, shot.part)
    try:
      seen = shown.show(shot, how.send, how.most_bytes)
      waiting.append((key, submit(_caption(job, shot.name, seen))))
    except (ValueError, OSError) as error:
      waiting.append((key, _known(str(error))))
    full = AHEAD * how.concurrency
    while waiting and (len(waiting) >= full or waiting[0][1].done()):
      yield _first(waiting)
  while waiting:
    yield _first(waiting)


def _first(waiting: collections.deque) -> tuple:
  """The first in line when it is done; an error of any of them ends all."""
  left = {future for _, future in waiting}
  while not waiting[0][1].done():
    done, left = wait(left, return_when=FIRST_COMPLETED)
    for future in done:
      future.result()
  key, future = waiting.popleft()
  return key, future.result()


def _known(value) -> Future:
  future = Future()
  future.set_result(value)
  return future


@contextlib.contextmanager
def _beside(job: Job) -> Iterator[Callable]:
  """Yields submit(coroutine) -> future of its result; a thread runs them."""
  loop, grace = asyncio.new_event_loop(), 0.0
  thread = threading.Thread(target=loop.run_forever, daemon=True)
  thread.start()
  try:
    yield lambda work: asyncio.run_coroutine_threadsafe(work, loop)
  except Exception:
    grace = GRACE
    raise
  finally:
    job.stopped = True
    ended = asyncio.run_coroutine_threadsafe(_end(job, grace), loop)
    with contextlib.suppress(TimeoutError):  # a program at its end
      ended.result(grace + GRACE)
      loop.call_soon_threadsafe(loop.stop)
      thread.join()
      loop.close()


async def _end(job, grace):
  """Lets what was paid for arrive, and gives up the rest."""
  tasks = asyncio.all_tasks() - {asyncio.current_task()}
  if tasks:
    _, late = await asyncio.wait(tasks, timeout=grace)
    for task in late:
      task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
  await job.endpoint.client.close()


async def _caption(job: Job, name: str, seen) -> list[Text] | str:
  """Both passes over a shot; or why it has no captions."""
  ask = job.ask
  try:
    first = await _answers(job, name, seen, ask.question, ask.candidates)
    last = first
    if ask.retrospective:
      asked = [shots.again(said.text, ask) for said in first]
      names = [f"{name} again {number}" for number in range(len(first))]
      rows = await asyncio.gather(
        *(
          _answers(job, again, seen, question, 1)
          for again, question in zip(names, asked, strict=True)
        )
      )
      last = [row[0] for row in rows]
  except (calling.Unavailable, calling.Refused, Unusable) as error:
    kind = type(error).__name__.lower()  # as judging's reasons begin
    return f"{name}: {kind}: {error.args[0]}"
  return [_text(job, *pair, ask) for pair in zip(first, last, strict=True)]


def _text(job, first: Said, last: Said, ask: Ask) -> Text:
  both = (first, last) if ask.retrospective else (last,)
  told = frozenset(said.fingerprint for said in both) - {""}
  seeded = "seed" in job.writer.how.fields
  served = Served(job.endpoint.url, job.endpoint.model, told, seeded)
  tokens = sum(said.tokens for said in both)
  return Text(first.text, last.text, tokens, served)


async def _answers(job, name, seen, question, count) -> list[Said]:
  """`count` captions; what is none is asked for again, with another seed.

  A server that gives fewer than it was asked for is asked for the rest.
  """
  said, asked, in_vain = [], 0, 0
  while len(said) < count:
    left = count - len(said)
    reply = await _reply(job, f"{name} try {asked}", seen, question, left)
    usable, why = _usable(job, reply)
    said += usable[:left]
    asked, in_vain = asked + 1, 0 if usable else in_vain + 1
    if in_vain >= job.writer.how.asks:
      raise Unusable(why)
  return said


def _usable(job, reply) -> tuple[list[Said], str]:
  """The captions among the choices of a reply, and what the others lack."""
  found, why, limit = [], "", job.ask.max_new_tokens
  each, rest = divmod(reply["completion_tokens"], len(reply["choices"]))
  for number, choice in enumerate(reply["choices"]):
    text = calling.without_secrets(job.endpoint, choice["text"])
    text = thoughts.without_thoughts(text).strip()
    if not text:
      why = "the answer is empty"
      if choice["cut"]:
        why += f", cut at max_new_tokens={limit}; allow for more"
    elif len(text) > LETTERS * limit:
      why = f"an answer of {len(text):,} letters, for {limit} tokens"
    else:
      tokens = each + (rest if number == 0 else 0)
      found.append(Said(text, tokens, reply["fingerprint"]))
  return found, why


async def _reply(job, name, seen, question, count) -> dict:
  """From the file or from the server: choices, tokens and fingerprint."""
  ask, how = job.ask, job.writer.how
  options = how.options(ask, _seed(ask.seed, name), count)
  content = [*seen.parts, {"type": "text", "text": question}]

  async def buy():
    async with job.room:
      if job.stopped:
        raise calling.Unavailable("the run has ended", False)
      response = await calling.call(
        job.endpoint,
        [{"role": "user", "content": content}],
        schema=None,
        max_tokens=ask.max_new_tokens,
        options=options,
      )
    job.check_system(response.fingerprint)
    choices = [choice._asdict() for choice in response.choices]
    return {**response._asdict(), "choices": choices}

  asked = dict(
    name=name,
    model=job.endpoint.model,
    version=serving.VERSION,
    shown=seen.digest,
    question=question,
    max_tokens=ask.max_new_tokens,
    options=options,
    extra=how.extra,
  )
  about = {"model": job.endpoint.model, "version": serving.VERSION}
  reply = await paid.once(job.held, digest(asked, 64), about, buy)
  job.check_system(reply["fingerprint"])
  return reply


def _seed(seed: int, name: str) -> int:
  """Of a request: a number of 31 bits that seed and name decide."""
  code = hashlib.sha256(f"{seed} {name}".encode()).digest()[:4]
  return int.from_bytes(code, "big") >> 1
