"""A chat endpoint on this machine that behaves as badly as it is told to."""

import contextlib
import functools
import json
import socket
import struct
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HANG = object()  # never answers
DRIP = object()  # sends a byte now and then
RESET = object()  # slams the connection
TORN = object()  # the same, in the middle of a reply
BOMB = object()  # a small gzip file of very many bytes
FLOOD = object()  # a reply without end


def chat(text, **usage):
  """A well-formed response that says `text`."""
  usage = {"prompt_tokens": 10, "completion_tokens": 5} | usage
  choice = {
    "index": 0,
    "finish_reason": "stop",
    "message": {"role": "assistant", "content": text},
  }
  body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
  return 200, {}, json.dumps({**body, "choices": [choice], "usage": usage})


@functools.cache
def bomb(size=128 << 20):
  """gzip of `size` spaces."""
  packer, piece = zlib.compressobj(1, zlib.DEFLATED, 31), b" " * (1 << 20)
  parts = [packer.compress(piece) for _ in range(size >> 20)]
  return b"".join(parts) + packer.flush()


class Log:
  """What arrived: request bodies, headers, times, most at once."""

  def __init__(self):
    self.bodies, self.headers, self.times = [], [], []
    self.busy = self.busiest = 0
    self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
  """Logs a request, asks its server's `behave` what to do, and does it."""

  protocol_version = "HTTP/1.1"

  def log_message(self, *args):
    pass

  def do_POST(self):
    raw = self.rfile.read(int(self.headers["Content-Length"]))
    log = self.server.log
    with log.lock:
      number = len(log.bodies)
      log.bodies.append(json.loads(raw))
      log.headers.append({k.lower(): v for k, v in self.headers.items()})
      log.times.append(time.monotonic())
      log.busy += 1
      log.busiest = max(log.busiest, log.busy)
    try:
      time.sleep(self.server.delay)
      self.answer(self.server.behave(number, json.loads(raw)))
    finally:
      with log.lock:
        log.busy -= 1

  def answer(self, what):
    if what is HANG:
      self.server.over.wait(30)
      self.close_connection = True
    elif what is DRIP:
      self.drip()
    elif what is BOMB:
      self.reply(500, {"Content-Encoding": "gzip"}, bomb())
    elif what is FLOOD:
      self.flood()
    elif what in (RESET, TORN):
      self.slam(torn=what is TORN)
    else:
      self.reply(*what)

  def drip(self):
    self.promise()
    with contextlib.suppress(OSError):
      for _ in range(100):
        self.wfile.write(b" ")
        if self.server.over.wait(0.1):
          break
    self.close_connection = True

  def flood(self):
    self.send_response(200)
    self.send_header("Transfer-Encoding", "chunked")
    self.end_headers()
    with contextlib.suppress(OSError):
      while not self.server.over.is_set():
        self.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
    self.close_connection = True

  def promise(self):
    """Says that a thousand bytes will follow."""
    self.send_response(200)
    self.send_header("Content-Length", "1000")
    self.end_headers()

  def slam(self, torn):
    if torn:
      self.promise()
      self.wfile.write(b'{"choices": [')
    linger = struct.pack("ii", 1, 0)
    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    self.connection.close()
    self.close_connection = True

  def reply(self, status, headers, text):
    data = text if isinstance(text, bytes) else text.encode()
    self.send_response(status)
    usual = {"Content-Type": "application/json"}
    usual["Content-Length"] = str(len(data))
    for name, value in (usual | headers).items():
      self.send_header(name, value)
    self.end_headers()
    self.wfile.write(data)

  def finish(self):
    with contextlib.suppress(OSError):
      super().finish()


class Server(ThreadingHTTPServer):
  """Listens on a free port; `over` is set when nobody asks any more."""

  def __init__(self, behave, delay):
    self.behave, self.delay = behave, delay
    self.log, self.over = Log(), threading.Event()
    super().__init__(("127.0.0.1", 0), Handler)

  def handle_error(self, *args):
    pass


@contextlib.contextmanager
def serve(behave, *, delay=0.0):
  """Yields (base URL, Log). `behave(n, body)` is asked for the n-th request.

  It returns (status, headers, body as text or bytes), HANG, DRIP, RESET, TORN,
  BOMB or FLOOD.
  """
  server = Server(behave, delay)
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  try:
    yield f"http://127.0.0.1:{server.server_port}/v1", server.log
  finally:
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()
