"""What comes over the wire of a chat endpoint: bounded, and from nowhere else.

A client with the guards of `client` reads a response up to a limit, counted
after inflation and while it inflates, whatever its status is. It follows a
redirect within the address that it was given and no other: what is asked
goes to nobody else.
"""

import zlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urljoin, urlsplit

from synpo_jax.endpoints.responses import LARGEST

PIECE = 1 << 16  # bytes inflated at a time
STREAM = "AsyncByteStream"  # httpx2's or httpx's, whichever openai has
PLAIN = ("", "identity")
WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # as zlib counts them


class Elsewhere(Exception):
  """A redirect leads to another origin; args: the origin."""


class Unread(Exception):
  """A response that is not read to its end; args: why."""


def client() -> Any:
  """An HTTP client for openai's, with its settings and our guards."""
  import openai

  hooks = {"response": [_guard]}
  return openai.DefaultAsyncHttpxClient(event_hooks=hooks)


async def _guard(response):
  """Looks at a response before any of its body is read."""
  if response.has_redirect_location:
    here = str(response.url)
    target = _origin(here, response.headers["location"])
    if target != _origin(here):
      raise Elsewhere(target)
  encoding = response.headers.get("content-encoding", "").strip().lower()
  if encoding not in (*PLAIN, *WINDOWS):
    raise Unread(f"encoded as {encoding[:40]!r}")
  response.headers.pop("content-encoding", None)
  response.stream = _bounded(response.stream, encoding)


def _origin(url: str, place: str = "") -> str:
  """Scheme, host and port of a place that a page names; as it may be shown."""
  try:
    parts = urlsplit(urljoin(url, place))
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return f"{parts.scheme}://{parts.hostname}:{port}"
  except ValueError:
    return "what is no address"


def _bounded(stream, encoding):
  """The stream, inflated by us: at most LARGEST bytes, else Unread."""
  kind = next(k for k in type(stream).__mro__ if k.__name__ == STREAM)

  class Bounded(kind):
    async def __aiter__(self) -> AsyncIterator[bytes]:
      total = 0
      async for piece in _inflated(stream, encoding):
        total += len(piece)
        if total > LARGEST:
          raise Unread(f"more than {LARGEST:,} bytes")
        yield piece

    async def aclose(self) -> None:
      await stream.aclose()

  return Bounded()


async def _inflated(stream, encoding):
  """Pieces of what the stream holds, each of at most PIECE bytes or as sent."""
  if encoding in PLAIN:
    async for sent in stream:
      yield sent
    return
  machine = zlib.decompressobj(WINDOWS[encoding])
  try:
    async for sent in stream:
      while piece := machine.decompress(sent, PIECE):
        yield piece
        sent = machine.unconsumed_tail
  except zlib.error:
    raise Unread(f"no {encoding}, as it says it is") from None
