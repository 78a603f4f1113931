"""One call to an OpenAI-compatible chat endpoint, made to come through.

Works with the hosted services and with vLLM, SGLang and llama.cpp servers.
What may pass is tried again with growing, jittered waits, never sooner than
the server's Retry-After; what cannot pass is told apart: a wrong key stops
the run, a refused request costs its own answer only. Where a server refuses
JSON-schema output, plain requests are made from then on. The client's library
is imported where a server is asked: it takes a second.
"""

import asyncio
import dataclasses
import json
import logging
import random
import time
from typing import Any

from synpo_jax.endpoints import responses, secrets, server, wire

PASSING = {408, 409, 425, 429}  # and 500 upwards
HOPELESS = {401, 402, 403, 404, 405}  # key, account, address or model
SPENT = {  # codes of an account that no waiting mends, whatever the status
  *("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"),
  *("account_deactivated", "insufficient_balance", "credit_balance_too_low"),
}
AT_FIRST = {"silent": 3, "refused": 8}  # in a row that stop a run, till then
# Ways to ask for output of a schema. The first is the common one; the second
# is what llama-cpp-python's server understands.
SHAPES = {
  "json_schema": lambda schema: {
    "type": "json_schema",
    "json_schema": {"name": "reply", "strict": True, "schema": schema},
  },
  "json_object": lambda schema: {"type": "json_object", "schema": schema},
  "none": None,
}


class Unavailable(Exception):
  """No answer after the last try; asking later may well bring one.

  args: the reason, and whether the server answered at all, with an error.
  """


class Refused(Exception):
  """The server will not take this request, now or later; args as above."""


@dataclasses.dataclass
class Endpoint:
  """A server, how to treat it, and what was learnt about it so far."""

  names: server.Names
  client: Any = dataclasses.field(repr=False)  # openai.AsyncOpenAI
  url: str  # as it may be shown
  model: str
  secrets: tuple[str, ...] = dataclasses.field(repr=False)
  timeout: float  # seconds for one try, from sending to the last byte
  tries: int
  first_wait: float  # seconds; doubles from try to try
  longest_wait: float
  stop_after: int  # requests in a row without an answer
  limit_name: str
  extra: dict
  schema: str  # how JSON-schema output is asked for: a key of SHAPES
  takes: dict[str, bool] = dataclasses.field(default_factory=dict)  # schemas
  probe: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
  probed: bool = False  # the first structured request is through
  resume_at: float = 0.0  # nobody sends before this monotonic time
  alive: bool = False  # there was a response of some kind
  silent: int = 0  # requests in a row without an answer
  refused: int = 0  # in a row, with no reply between them
  replied: bool = False  # there was a reply
  sent: int = 0


def connect(
  names: server.Names,
  *,
  base_url: str,
  model: str,
  key: str,
  schema: str,
  **treatment: Any,
) -> Endpoint:
  """The endpoint of these settings; empty ones come from the environment.

  Without any address it is OpenAI's own; see endpoints.server. Raises
  ValueError when no model is named or a hosted service has no key.
  """
  import openai

  server.check(base_url, model, key, names)
  url = server.address(base_url, names)
  model = server.model_name(model, names)
  key = server.secret(key, names)
  if schema not in SHAPES:
    known = ", ".join(SHAPES)
    raise ValueError(f"{names.who}: schema={schema!r} is none of {known}")
  for name in ("httpx", "httpx2", "openai"):  # a line for every request
    logging.getLogger(name).setLevel(logging.WARNING)
  client = openai.AsyncOpenAI(
    base_url=url or None,
    api_key=key or "none",  # the client insists; local servers ignore it
    max_retries=0,
    timeout=treatment["timeout"],
    default_headers={"Accept-Encoding": "identity"},
    http_client=wire.client(),
  )
  held = secrets.held(url, key)
  url = secrets.shown(str(client.base_url)).rstrip("/")
  return Endpoint(names, client, url, model, held, schema=schema, **treatment)


async def call(
  endpoint: Endpoint,
  messages: list[dict],
  *,
  schema: dict | None,
  max_tokens: int,
  options: dict,
) -> responses.Response:
  """The server's response. Raises Unavailable, Refused, or ValueError to stop.

  options: further fields of the request, as temperature. The first structured
  request travels alone, so that a server without JSON-schema output is found
  out once.
  """
  request = {
    "model": endpoint.model,
    "messages": messages,
    endpoint.limit_name: max_tokens,
    **endpoint.extra,
    **options,
  }
  if schema is None or endpoint.schema == "none":
    return await _persist(endpoint, request)
  if endpoint.probed:
    return await _structured(endpoint, request, schema)
  async with endpoint.probe:
    try:
      return await _structured(endpoint, request, schema)
    finally:
      endpoint.probed = True


async def _structured(endpoint, request, schema):
  """With the schema; without it where that is what the server refuses."""
  shaped = SHAPES[endpoint.schema](schema)
  name = json.dumps(schema, sort_keys=True)
  takes = endpoint.takes
  if not takes.get(name, any(takes.values()) or not takes):
    return await _persist(endpoint, request)
  try:
    reply = await _persist(endpoint, {**request, "response_format": shaped})
    takes[name] = True
  except (Refused, Unavailable) as error:
    answered = error.args[1]
    if takes.get(name) or not answered:
      raise
    reply = await _persist(endpoint, request)  # else it is its own fault
    takes[name] = False
  return reply


async def _persist(endpoint, request):
  """Tries until a reply is here, the tries are used up or it is refused."""
  import openai

  why, answered = "", False
  for attempt in range(endpoint.tries):
    await asyncio.sleep(endpoint.resume_at - time.monotonic())
    asked, answered = 0.0, True
    try:
      reply = await _send(endpoint, request)
      endpoint.alive = endpoint.replied = True
      endpoint.silent = endpoint.refused = 0
      return reply
    except openai.APIStatusError as error:
      endpoint.alive = True
      why = _status(endpoint, error)
      asked = responses.retry_after(error.response.headers)
    except (openai.APIConnectionError, TimeoutError) as error:
      why, answered = _silence(endpoint, error), False
    except wire.Elsewhere as error:
      raise ValueError(
        f"{endpoint.names.who}: {endpoint.url} redirects to {error}, where "
        f"nothing was sent; set {endpoint.names.address} to the server that is "
        "meant"
      ) from None
    except wire.Unread as error:
      endpoint.alive = True
      why = f"an unreadable response: {error}"
    except (ValueError, openai.APIError) as error:
      why = _clean(endpoint, f"an unreadable response: {error}")
    if asked > endpoint.longest_wait:
      why = f"asked to wait {asked:.0f} s; {why}"
      break
    await _back_off(endpoint, attempt, asked)
  _count_silence(endpoint, why)
  raise Unavailable(why, answered)


async def _send(endpoint, request):
  endpoint.sent += 1
  completions = endpoint.client.chat.completions.with_raw_response
  async with asyncio.timeout(endpoint.timeout):
    response = await completions.create(**_split(request))
  found = responses.read(response.content)
  choices = tuple(
    choice._replace(text=without_secrets(endpoint, choice.text))
    for choice in found.choices
  )
  told = without_secrets(endpoint, found.fingerprint)
  return found._replace(choices=choices, fingerprint=told)


def without_secrets(endpoint: Endpoint, text: str) -> str:
  """A text of the server with *** for the key, if it echoes it."""
  return secrets.cut(text, endpoint.secrets)


def _split(request):
  """What the client has no argument for goes into the body as it is."""
  known = {"model", "messages", "temperature", "top_p", "seed", "n"}
  known |= {"max_tokens", "max_completion_tokens"}
  known |= {"response_format", "reasoning_effort"}
  named = {name: value for name, value in request.items() if name in known}
  extra = {name: value for name, value in request.items() if name not in known}
  return {**named, "extra_body": extra or None}


def _status(endpoint, error):
  """One line for a status that may pass; raises for one that will not."""
  detail = _clean(endpoint, error.message)
  why = f"status {error.status_code}: {detail}"
  if SPENT & {str(error.code), str(error.type)}:
    raise ValueError(
      f"{endpoint.names.who}: {endpoint.url} answered {why}; the account has "
      f"nothing left to spend. {endpoint.names.kept.capitalize()} is kept: pay "
      "it up, or use another key, and run again"
    ) from None
  refusal = "response_format" in error.message  # by some servers with a 500
  if error.status_code in PASSING or error.status_code >= 500 and not refusal:
    return why
  if error.status_code in HOPELESS:
    names = endpoint.names
    raise ValueError(
      f"{names.who}: {endpoint.url} answered {why}; check {names.address}, "
      f"{names.model} and {names.key}"
    ) from None
  _count_refusal(endpoint, why)
  raise Refused(why, True) from None


def _silence(endpoint, error):
  import openai

  if isinstance(error, openai.APITimeoutError | TimeoutError):
    return f"no answer within {endpoint.timeout:g} s"
  return _clean(endpoint, f"connection failed: {error.__cause__ or error}")


def _clean(endpoint, text):
  """One short line in which no secret occurs."""
  return secrets.cut(" ".join(str(text).split()), endpoint.secrets)[:200]


async def _back_off(endpoint, attempt, asked):
  """Waits for the next try; a wait the server asked for holds everybody."""
  endpoint.resume_at = max(endpoint.resume_at, time.monotonic() + asked)
  if attempt + 1 < endpoint.tries:
    own = min(endpoint.longest_wait, endpoint.first_wait * 2**attempt)
    await asyncio.sleep(max(asked, own * random.uniform(0.5, 1.0)))


def _count_silence(endpoint, why):
  endpoint.silent += 1
  limit = endpoint.stop_after if endpoint.alive else AT_FIRST["silent"]
  if endpoint.silent >= limit:
    raise ValueError(
      f"{endpoint.names.who}: {endpoint.url} left {endpoint.silent} requests "
      f"in a row without an answer ({why}); {endpoint.names.kept} is kept, run "
      "again later"
    )


def _count_refusal(endpoint, why):
  """Stops a run whose every request is refused, before it ends with nothing."""
  endpoint.refused += 1
  limit = endpoint.stop_after if endpoint.replied else AT_FIRST["refused"]
  if endpoint.refused >= limit:
    raise ValueError(
      f"{endpoint.names.who}: {endpoint.url} refused {endpoint.refused} "
      f"requests in a row ({why}); check {endpoint.names.options}"
    ) from None
