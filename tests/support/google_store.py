"""Google's store on this machine, with the rules that its clients live by.

The emulator serves one connection after the other, knows no conditions, and
names no generations where it is read. Who writes checkpoints opens connections
before they are used and trusts a write with a condition to fail.
"""

import contextlib
import functools
import http.server
import logging
import threading
import types
from http import HTTPStatus
from unittest import mock

from gcp_storage_emulator import exceptions
from gcp_storage_emulator import server as emulator

NONE = "0"  # the generation of an object that is not there


class Connections(http.server.ThreadingHTTPServer):
  """A thread for each connection; clients connect by the dozen."""

  request_queue_size = 128


@contextlib.contextmanager
def serve(port: int):
  """The store with a bucket `bucket`, until the end of the work."""
  logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
  own = functools.partial(functools.partial, _handle, threading.Lock())
  handlers = tuple(
    (path, {verb: own(handler) for verb, handler in verbs.items()})
    for path, verbs in emulator.HANDLERS
  )
  http_server = types.SimpleNamespace(HTTPServer=Connections)
  with (
    mock.patch.object(emulator, "HANDLERS", handlers),
    mock.patch.object(emulator, "server", http_server),
  ):
    server = emulator.create_server(
      "127.0.0.1", port, in_memory=True, default_bucket="bucket"
    )
    server.start()
    try:
      yield
    finally:
      server.stop()


def _handle(one_at_a_time, handler, request, response, storage):
  """What is asked for, if the object is of the generation that is wanted."""
  request.data  # noqa: B018  a slow client is waited for before, not within
  with one_at_a_time:
    unmet = _unmet(request, _generation(request, storage))
    if unmet:
      response.status = unmet
      return
    handler(request, response, storage)
    now = _generation(request, storage)
    if response.status < 300 and now != NONE:
      response["x-goog-generation"] = now


def _unmet(request, now: str) -> HTTPStatus | None:
  wanted = request.query.get("ifGenerationMatch", [now])[0]
  unwanted = request.query.get("ifGenerationNotMatch", [None])[0]
  if wanted != now:
    return HTTPStatus.PRECONDITION_FAILED
  return HTTPStatus.NOT_MODIFIED if unwanted == now else None


def _generation(request, storage) -> str:
  """Of the object that a request is about."""
  name = request.params.get("object_id") or request.query.get("name", [""])[0]
  if not name and isinstance(request.data, dict):
    name = (request.data.get("meta") or {}).get("name", "")
  try:
    bucket = request.params.get("bucket_name")
    return storage.get_file_obj(bucket, name)["generation"]
  except exceptions.NotFound:
    return NONE
