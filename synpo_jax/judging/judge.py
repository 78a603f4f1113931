"""Asking a language model for judgements: each question paid for once.

A request is a chat with a parser for its reply. Replies are kept in an
append-only file under the SHA-256 of what was asked, so a run that is killed,
repeated or extended asks only what is new. A reply that the parser refuses is
asked for again, with the reason, a bounded number of times; then the answer
is missing, which is not a score.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from synpo_jax.endpoints import calling, paid, server
from synpo_jax.endpoints.paid import Usage
from synpo_jax.judging.replies import Unreadable
from synpo_jax.runtime import journal
from synpo_jax.runtime.settings import digest

REASON = 200  # letters of why a reply is unusable; it may quote the reply
PAUSE = 0.1  # seconds, before looking again for requests that are to come
GRACE = 5.0  # seconds that calls under way have when another stops the run
AGAIN = (
  "An earlier reply of yours could not be used: {reason}. "
  "Try {attempt}: answer with the JSON object alone."
)

JUDGE = server.Names(
  who="judge",
  address="judge.base_url or API_URL",
  model="judge.model or API_MODEL",
  key="judge.key or API_KEY",
  options="judge.limit_name, judge.extra and judge.temperature",
  kept="what is judged",
  urls=("API_URL", "OPENAI_BASE_URL"),
  keys=("API_KEY", "OPENAI_API_KEY"),
  models=("API_MODEL", "OPENAI_MODEL"),
)


class Request(NamedTuple):
  """One question; its id comes back with the answer."""

  id: Hashable
  messages: tuple[dict, ...]  # {"role": …, "content": …}, user last
  parse: Callable[[str], Any]  # reply -> value; raises Unreadable
  schema: dict | None  # JSON schema of the reply, where the server offers it
  max_tokens: int  # of the reply; doubled when one was cut short
  version: str  # of the prompt
  repeat: int = 0  # which of several askings; from 1 on it is the reply's seed


class Answer(NamedTuple):
  """What came of a request: a value, or the reason why there is none.

  missing begins with "unavailable" when asking later may help, with
  "refused" when the server would not take the request, and with "unusable"
  when no reply could be read.
  """

  id: Hashable
  value: Any
  missing: str | None


class Aside(NamedTuple):
  """What the judge of a config says beside the settings of `ask`."""

  repeats: int  # how often each question is asked
  may_fail: int  # wrong answers to known items, before a judge is refused


def part(section: Mapping[str, Any]) -> tuple[Aside, dict]:
  """The judge of a config (configs/evaluation.py), and what `ask` takes of it.

  Raises ValueError for counts that make no sense.
  """
  rest = dict(section)
  aside = Aside(*(rest.pop(name) for name in Aside._fields))
  for name, least in (("repeats", 1), ("may_fail", 0)):
    if (given := getattr(aside, name)) < least:
      raise ValueError(f"judge.{name}={given}: give {least} or more")
  return aside, rest


class Reply(NamedTuple):
  text: str
  cut: bool  # the reply reached its limit of tokens
  prompt_tokens: int
  completion_tokens: int


def ask(
  requests: Iterable[Request | None],
  on_answer: Callable[[Answer, Usage], None],
  *,
  cache: Path | str,
  concurrency: int,
  asks: int,
  temperature: float | None,
  **settings: Any,
) -> Usage:
  """Asks everything; `on_answer` gets each answer as it comes, in any order.

  Args:
    requests: read as they are needed, `concurrency` at a time; None for
      none yet, while others are under way.
    cache: JSONL of replies; made when it is not there.
    asks: how often one question is asked until its reply can be read.
    temperature: None leaves it to the server.
    settings: of the server, those of endpoints.calling.connect.

  Returns:
    The cost of this call.

  Raises:
    ValueError: the server cannot be used at all; one line says why.
  """
  with journal.extend(cache, "key", on_disk=True) as (rows, append):
    endpoint = calling.connect(JUDGE, **settings)
    held = paid.replies(rows, append)
    options = {} if temperature is None else {"temperature": temperature}
    job = _Job(endpoint, held, asks, options)
    asyncio.run(_ask(job, iter(requests), on_answer, concurrency))
  return held.usage()


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
  endpoint: calling.Endpoint
  held: paid.Replies
  asks: int
  options: dict  # fields of every request


async def _ask(job, requests: Iterator, on_answer, concurrency):
  stopped = False

  async def work():
    for request in requests:  # shared: each worker takes the next one
      if request is None:
        await asyncio.sleep(PAUSE)
        if stopped:
          return
        continue
      answer = await _answer(job, request)
      on_answer(answer, job.held.usage())
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
    except calling.Unavailable as error:
      return Answer(request.id, None, f"unavailable: {error.args[0]}")
    except calling.Refused as error:
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


async def _reply(job, request, limit) -> Reply:
  """From the cache, from the same question under way, or from the server."""

  async def buy():
    response = await calling.call(
      job.endpoint,
      list(request.messages),
      schema=request.schema,
      max_tokens=limit,
      options=job.options | _seed(request),
    )
    tokens = response.prompt_tokens, response.completion_tokens
    return Reply(*response.choices[0], *tokens)._asdict()

  about = {"model": job.endpoint.model, "version": request.version}
  found = await paid.once(job.held, _key(job, request, limit), about, buy)
  reply = Reply(**found)
  return reply._replace(text=calling.without_secrets(job.endpoint, reply.text))


def _key(job, request, limit) -> str:
  """SHA-256 of all that decides a reply, whichever server gives it."""
  asked = dict(
    model=job.endpoint.model,
    version=request.version,
    messages=request.messages,
    schema=request.schema,
    max_tokens=limit,
    temperature=job.options.get("temperature"),
    extra=job.endpoint.extra,
    **_seed(request),
  )
  return digest(asked, 64)


def _seed(request) -> dict[str, int]:
  """What makes a further asking of a question another one."""
  return {"seed": request.repeat} if request.repeat else {}
