"""Who holds a folder that one process at a time writes, said and recognised."""

import contextlib
import os
import pathlib
import platform
import threading
import time
from collections.abc import Callable, Iterator


def describe() -> dict:
  """This process, for others to read."""
  return {
    "process": os.getpid(),
    "host": platform.node(),
    "machine": machine(),
    "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
  }


def machine() -> str:
  """What tells a running kernel from others, and from its next start."""
  with contextlib.suppress(OSError):
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text("ascii").strip()
  return platform.node()


def told(holder: dict) -> str:
  """A holder in words."""
  since = f" since {holder['since']}" if "since" in holder else ""
  process, host = (holder.get(key, "?") for key in ("process", "host"))
  return f"process {process} on {host}{since}"


def refusal(target: pathlib.Path | str, holder: dict) -> ValueError:
  """The error of who finds a folder held."""
  return ValueError(
    f"{target} is held by {told(holder)}, which writes there; wait for it or "
    "stop it, or name another place"
  )


@contextlib.contextmanager
def beating(beat: Callable[..., None], *given) -> Iterator[None]:
  """Runs beat(*given, ended) in a thread, and sets `ended` at the end."""
  ended = threading.Event()
  thread = threading.Thread(target=beat, args=(*given, ended), daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
