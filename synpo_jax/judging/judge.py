"""Asking a language model for judgements: each question paid for once.

A request is a chat with a parser for its reply. Replies are kept in an
append-only file under the SHA-256 of what was asked, so a run that is killed,
repeated or extended asks only what is new. A reply that the parser refuses is
asked for again, with the reason, a bounded number of times; then the answer
is missing, which is not a score.
"""

import asyncio
import collections
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from synpo_jax.judging import endpoint as endpoints
from synpo_jax.judging import responses
from synpo_jax.judging.replies import Unreadable
from synpo_jax.runtime import journal
from synpo_jax.runtime.settings import digest

REASON = 200  # letters of why a reply is unusable; it may quote the reply
GRACE = 5.0  # seconds that calls under way have when another stops the run
AGAIN = (
  "An earlier reply of yours could not be used: {reason}. "
  "Try {attempt}: answer with the JSON object alone."
)


class Request(NamedTuple):
  """One question; its id comes back with the answer."""

  id: Hashable
  messages: tuple[dict, ...]  # {"role": …, "content": …}, user last
  parse: Callable[[str], Any]  # reply -> value; raises Unreadable
  schema: dict | None  # JSON schema of the reply, where the server offers it
  max_tokens: int  # of the reply; doubled when one was cut short
  version: str  # of the prompt


class Answer(NamedTuple):
  """What came of a request: a value, or the reason why there is none.

  missing begins with "unavailable" when asking later may help, with
  "refused" when the server would not take the request, and with "unusable"
  when no reply could be read.
  """

  id: Hashable
  value: Any
  missing: str | None


class Usage(NamedTuple):
  """Cost so far: of this run, and replies that earlier ones had paid for."""

  calls: int = 0
  prompt_tokens: int = 0
  completion_tokens: int = 0
  cached: int = 0

  def note(self) -> str:
    tokens = self.prompt_tokens + self.completion_tokens
    return f"{self.calls} calls, {tokens:,} tokens, {self.cached} from cache"


def ask(
  requests: Iterable[Request],
  on_answer: Callable[[Answer, Usage], None],
  *,
  cache: Path | str,
  concurrency: int,
  asks: int,
  temperature: float | None,
  **server: Any,
) -> Usage:
  """Asks everything; `on_answer` gets each answer as it comes, in any order.

  Args:
    requests: read as they are needed, `concurrency` at a time.
    cache: JSONL of replies; made when it is not there.
    asks: how often one question is asked until its reply can be read.
    temperature: None leaves it to the server.
    server: the settings of judging.endpoint.connect.

  Returns:
    The cost of this call.

  Raises:
    ValueError: the server cannot be used at all; one line says why.
  """
  spent = collections.Counter()
  with journal.extend(cache, "key") as (rows, append):
    endpoint = endpoints.connect(**server)
    job = _Job(endpoint, rows, append, asks, temperature, {}, spent)
    asyncio.run(_ask(job, iter(requests), on_answer, concurrency))
  return Usage(**spent)


def paid(cache: Path | str) -> dict[str, int]:
  """Calls and tokens of all replies in a cache, whichever run paid for them."""
  replies = [row["reply"] for row in journal.read(cache, "key").values()]
  return {"calls": len(replies)} | {
    name: sum(reply[name] for reply in replies)
    for name in ("prompt_tokens", "completion_tokens")
  }


def collect(
  ask: Callable[..., Usage], requests: Iterable[Request]
) -> tuple[dict[Hashable, Answer], Usage]:
  """All answers by id, and their cost; `ask(requests, on_answer)` asks."""
  answers = {}

  def keep(answer, usage):
    answers[answer.id] = answer

  usage = ask(requests, keep)
  return answers, usage


class _Job(NamedTuple):
  endpoint: endpoints.Endpoint
  rows: dict  # cached replies by key
  append: Callable[[dict], None]
  asks: int
  temperature: float | None
  waiting: dict  # key -> future of the same question under way
  spent: collections.Counter  # fields of Usage


async def _ask(job, requests: Iterator[Request], on_answer, concurrency):
  stopped = False

  async def work():
    for request in requests:  # shared: each worker takes the next one
      answer = await _answer(job, request)
      on_answer(answer, Usage(**job.spent))
      if stopped:
        return

  async with job.endpoint.client:
    tasks = [asyncio.ensure_future(work()) for _ in range(concurrency)]
    try:
      await asyncio.gather(*tasks)
    except Exception:
      stopped = True
      _, late = await asyncio.wait(tasks, timeout=GRACE)
      for task in late:
        task.cancel()
      raise


async def _answer(job, request) -> Answer:
  """Asks until a reply can be read, `asks` times at most."""
  reason, limit = "", request.max_tokens
  for attempt in range(1, job.asks + 1):
    asked = request
    if attempt > 1:
      asked = _again(request, reason, attempt)
    try:
      reply = await _reply(job, asked, limit)
      return Answer(request.id, request.parse(reply.text), None)
    except Unreadable as error:
      reason = str(error)[:REASON]
      if reply.cut:
        reason, limit = f"it was cut at {limit} tokens", 2 * limit
    except endpoints.Unavailable as error:
      return Answer(request.id, None, f"unavailable: {error.args[0]}")
    except endpoints.Refused as error:
      return Answer(request.id, None, f"refused: {error.args[0]}")
  return Answer(request.id, None, f"unusable: {reason}")


def _again(request, reason, attempt):
  """The request with its last message extended by what was wrong.

  The number of the try makes it another question, for the cache too.
  """
  *before, last = request.messages
  note = AGAIN.format(reason=reason, attempt=attempt)
  last = {**last, "content": f"{last['content']}\n\n{note}"}
  return request._replace(messages=(*before, last))


async def _reply(job, request, limit):
  """From the cache, from the same question under way, or from the server."""
  key = _key(job, request, limit)
  if key in job.waiting:
    reply = await asyncio.shield(job.waiting[key])
  elif key in job.rows:
    reply = responses.Reply(**job.rows[key]["reply"])
    reply = endpoints.without_secrets(job.endpoint, reply)
  else:
    job.waiting[key] = asyncio.ensure_future(_pay(job, request, key, limit))
    try:
      return await job.waiting[key]
    finally:
      del job.waiting[key]
  job.spent["cached"] += 1
  return reply


async def _pay(job, request, key, limit):
  reply = await endpoints.call(
    job.endpoint,
    list(request.messages),
    schema=request.schema,
    max_tokens=limit,
    temperature=job.temperature,
  )
  row = {"key": key, "model": job.endpoint.model, "version": request.version}
  job.append({**row, "reply": reply._asdict()})
  job.spent["calls"] += 1
  job.spent["prompt_tokens"] += reply.prompt_tokens
  job.spent["completion_tokens"] += reply.completion_tokens
  return reply


def _key(job, request, limit) -> str:
  """SHA-256 of all that decides a reply, whichever server gives it."""
  asked = dict(
    model=job.endpoint.model,
    version=request.version,
    messages=request.messages,
    schema=request.schema,
    max_tokens=limit,
    temperature=job.temperature,
    extra=job.endpoint.extra,
  )
  return digest(asked, 64)
