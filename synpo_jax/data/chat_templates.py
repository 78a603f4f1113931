"""The chat template of a tokenizer, rendered within limits and checked.

Templates are programs of others: each rendering has a limit of time, memory
and size, a failure is one line, and what the rendering lost of the texts is
noticed.
"""

import functools
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from synpo_jax.data import template_worker
from synpo_jax.data.turns import Message

SECONDS = 10.0  # for one rendering, which takes milliseconds
START_SECONDS = 300.0  # for the process to come up on a busy machine
MEMORY = 2**30  # bytes of the process that renders
CHARACTERS = 1_000_000  # that a template may write, the texts aside
CLOCK = "26 Jul 2024"  # for chat templates that would write today's date
BEGIN, END = "\ufdd0", "\ufdd1"  # around a text, to find it in the rendering
RESERVED = frozenset(map(chr, range(0xFDD0, 0xFDF0)))  # no characters

# By name, as Transformers imports PyTorch where it finds it: seconds.
Tokenizer = "transformers.PreTrainedTokenizerBase"


class Failed(Exception):
  """Why a template gave no text, in one line."""


class Renderer:
  """The process that renders; one that was stopped is started again."""

  def __init__(self):
    self._process, self._lock = None, threading.Lock()

  def __call__(self, template: str, values: dict) -> str:
    """The text; raises Failed."""
    sizes = sum(len(str(m["content"])) for m in values["messages"])
    request = dict(template=template, values=values, most=CHARACTERS + sizes)
    with self._lock:
      if self._process is None or self._process.poll() is not None:
        self._start()
      reply = self._ask(json.dumps(request), SECONDS)
    if "error" in reply:
      raise Failed(reply["error"])
    return reply["text"]

  def _start(self):
    # By its file and without this process's sys.path (-P): jinja2 alone is
    # imported, in a session of its own so that Ctrl-C is left to us.
    script = [template_worker.__file__, str(MEMORY)]
    self._process = subprocess.Popen(
      [sys.executable, "-P", *script],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      start_new_session=True,
    )
    self._read(START_SECONDS)

  def _ask(self, request: str, seconds: float) -> dict:
    try:
      self._process.stdin.write(request.encode() + b"\n")
      self._process.stdin.flush()
    except BrokenPipeError:
      self._stop()
      raise Failed("the process that renders it ended") from None
    return self._read(seconds)

  def _read(self, seconds: float):
    """The next line, as JSON; the process is gone where there is none."""
    file, held = self._process.stdout.fileno(), b""
    end = time.monotonic() + seconds
    while not held.endswith(b"\n"):
      left = max(0.0, end - time.monotonic())
      if not select.select([file], [], [], left)[0]:
        self._stop()
        raise Failed(f"it takes more than {seconds:g} seconds")
      some = os.read(file, 2**16)
      if not some:
        self._stop()
        raise Failed(f"it needs more than {MEMORY / 2**20:.0f} MiB, or crashes")
      held += some
    return json.loads(held)

  def _stop(self):
    self._process.kill()
    self._process.wait()
    self._process.stdin.close()
    self._process.stdout.close()
    self._process = None


@functools.cache
def _renderer(process: int) -> Renderer:
  """The renderer of this process; a fork has pipes of its own."""
  return Renderer()


def render(
  tokenizer: Tokenizer,
  turns: Sequence[Message],
  *,
  answer: bool,
  parts: bool,
) -> str:
  """The text of a conversation; raises Failed.

  answer: whether the next answer is opened. parts: each content is given as a
  list of one part of text, which some templates iterate over.
  """
  values = {
    **tokenizer.special_tokens_map,
    "tools": None,
    "documents": None,
    "add_generation_prompt": answer,
    "date_string": CLOCK,
    "messages": [
      {
        "role": role,
        "content": [{"type": "text", "text": text}] if parts else text,
      }
      for role, text in turns
    ],
  }
  try:
    template = tokenizer.get_chat_template()
  except ValueError as error:  # several, none of which is the default
    raise Failed(str(error).splitlines()[0]) from error
  return _renderer(os.getpid())(template, values)


def frame(tokenizer, turns, *, answer, parts, before="") -> str:
  """Renders a conversation with BEGIN and END around each of its texts.

  before: what of ours stands before the last. Raises Failed where the last
  text is not in the rendering, or nothing of an earlier one.
  """
  framed = [(role, f"{BEGIN}{text}{END}") for role, text in turns]
  role, last = framed[-1]
  framed[-1] = role, before + last
  text = render(tokenizer, framed, answer=answer, parts=parts)
  if last not in text:
    raise Failed("it drops or changes the question")
  for role, earlier in turns[:-1]:
    ends = BEGIN + earlier[:8], earlier[-8:] + END
    if not any(end in text for end in ends):
      raise Failed(f"it drops an earlier turn of the {role}")
  return text


@functools.cache
def _takes_parts(template: str, tokens: str, tokenizer) -> bool:
  """Whether a template keeps a question only as a part; raises Failed."""
  reasons = []
  for parts in (False, True):
    try:
      turns = [("user", "a")]
      frame(tokenizer, turns, answer=True, parts=parts)
      return parts
    except Failed as error:
      reasons.append(str(error))
  raise Failed(reasons[0])


def takes_parts(tokenizer: Tokenizer) -> bool:
  """Whether its chat template reads content as parts; raises Failed.

  Tried once per template on a question of one letter.
  """
  tokens = json.dumps(tokenizer.special_tokens_map)
  return _takes_parts(str(tokenizer.chat_template), tokens, tokenizer)
