"""What a chat endpoint sent back: a reply, or how long it wants to be left."""

import datetime
import email.utils
import json
import time
from typing import NamedTuple

LARGEST = 1 << 22  # bytes of a response that are read
MARK = 200  # letters of a fingerprint that are read
SAID = (None, "text", "output_text")  # parts that are no thoughts
PATIENCE = ("retry-after-ms", "retry-after")


class Choice(NamedTuple):
  """One of the answers in a response."""

  text: str
  cut: bool  # it reached its limit of tokens


class Response(NamedTuple):
  """What came back: an answer, or several where several were asked for."""

  choices: tuple[Choice, ...]
  prompt_tokens: int
  completion_tokens: int  # of all choices
  fingerprint: str  # of the system that answered; "" where none is given


def read(content: bytes) -> Response:
  """What the body of a response holds; ValueError where there is no answer."""
  try:
    body = json.loads(content)
    return Response(
      choices=(_choice(body["choices"][0]), *map(_choice, body["choices"][1:])),
      prompt_tokens=_count(body, "prompt_tokens"),
      completion_tokens=_count(body, "completion_tokens"),
      fingerprint=_fingerprint(body),
    )
  except (KeyError, IndexError, TypeError, AttributeError, RecursionError):
    raise ValueError(f"no choices[0].message in {content[:80]}") from None


def _choice(choice) -> Choice:
  cut = choice.get("finish_reason") == "length"
  return Choice(_text(choice["message"]), cut)


def _fingerprint(body) -> str:
  told = body.get("system_fingerprint")
  return told[:MARK] if isinstance(told, str) else ""


def _text(message):
  content = message["content"]
  if isinstance(content, list):  # parts, as some servers send them
    said = [part for part in content if part.get("type") in SAID]
    content = "".join(part.get("text") or "" for part in said)
  if not isinstance(content, str | None):
    raise TypeError("content is neither text nor parts of text")
  return content or ""


def _count(body, name) -> int:
  """Tokens that a response says it took; 0 where it says nothing sensible."""
  usage = body.get("usage")
  count = usage.get(name) if isinstance(usage, dict) else None
  return count if isinstance(count, int) and count >= 0 else 0


def retry_after(headers) -> float:
  """Seconds the server asks for: Retry-After as seconds or as a date."""
  milliseconds, value = (headers.get(name) for name in PATIENCE)
  try:
    if milliseconds:
      return max(0.0, float(milliseconds) / 1000)
    if value and value.strip().replace(".", "", 1).isdigit():
      return float(value)
    if not value:
      return 0.0
    date = email.utils.parsedate_to_datetime(value)
    if date.tzinfo is None:  # dates in headers are of Greenwich
      date = date.replace(tzinfo=datetime.UTC)
    return max(0.0, date.timestamp() - time.time())
  except (TypeError, ValueError):  # a header that says nothing
    return 0.0
