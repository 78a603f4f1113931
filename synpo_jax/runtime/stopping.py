"""SIGINT (Ctrl-C), SIGHUP and SIGTERM: how a program is asked to stop.

Around most work a signal raises `Stopped`; around updates it is noted, and
the loop stops where it can save. Either way a second SIGINT ends at once.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
OF_TERMINALS = (signal.SIGINT, signal.SIGHUP)  # reach all its processes


class Stopped(KeyboardInterrupt):
  """A signal asked to stop, which others than its receiver let through."""

  def __init__(self, number: int):
    super().__init__(number)
    self.name = signal.Signals(number).name
    self.code = 128 + number


@contextlib.contextmanager
def in_one_line(kept: str) -> Iterator[None]:
  """Work that a signal ends in one line, with the shell's exit code for it.

  kept: what is not lost, and how to go on; "" says nothing.
  """
  try:
    with raising():
      yield
  except Stopped as stopped:
    print(f"stopped by {stopped.name}{kept and ': '}{kept}", file=sys.stderr)
    sys.exit(stopped.code)


@contextlib.contextmanager
def raising() -> Iterator[None]:
  """The first signal raises Stopped in the main thread."""
  begun = threading.Event()

  def stop(number, frame):
    if begun.is_set():
      _again(number)
    else:
      begun.set()
      raise Stopped(number)

  before = _install(stop, SIGNALS)
  try:
    yield
  finally:
    if not begun.is_set():  # else a second one still ends at once
      _restore(before)


@contextlib.contextmanager
def noted(several: bool) -> Iterator[threading.Event]:
  """Yields an event that a signal sets; the work within goes on.

  several: whether processes agree through JAX, which takes note of SIGTERM:
  there the other signals are turned into that one.
  """
  stop = threading.Event()

  def note(number, frame):
    if stop.is_set():
      _again(number)
      return
    stop.set()
    name = signal.Signals(number).name
    _tell(f"{name}: saving after this update; a second SIGINT ends at once")
    if several:
      os.kill(os.getpid(), signal.SIGTERM)

  before = _install(note, OF_TERMINALS if several else SIGNALS)
  try:
    yield stop
  finally:
    _restore(before)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
  """Processes that are started within do not hear a terminal's signals.

  A terminal sends them to all of its processes at once; those that work for
  another are ended by it.
  """
  before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_TERMINALS)
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _install(handler, numbers) -> dict:
  """Handles signals; one that nohup ignores stays so. Returns what was."""
  if threading.current_thread() is not threading.main_thread():
    return {}  # Python lets others install none
  before = {number: signal.getsignal(number) for number in numbers}
  if before[signal.SIGHUP] is signal.SIG_IGN:
    del before[signal.SIGHUP]
  for number in before:
    signal.signal(number, handler)
  return before


def _restore(before: dict) -> None:
  for number, handler in before.items():
    if handler is not None:  # None: not Python's own, and out of its reach
      signal.signal(number, handler)


def _again(number: int) -> None:
  """A signal after the first: SIGINT ends this process and its workers."""
  if number == signal.SIGINT:
    _tell("SIGINT again: ended at once")
    for child in multiprocessing.active_children():
      child.kill()
    os._exit(128 + number)


def _tell(line: str) -> None:
  """Prints from a signal handler, which may have interrupted a print."""
  os.write(2, f"{line}\n".encode())
