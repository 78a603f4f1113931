"""Plans made before, kept in the user's cache folder for the same question.

A plan takes minutes of a compiler, and is the same for as long as all that it
hangs on is: config and flags, the checkpoint's sizes, the longest of the first
lists of captions, what compiles, and our own source. Any other finds nothing.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from synpo_jax.planning import first_lists
from synpo_jax.runtime import journal, seal, settings, shipped, starting
from synpo_jax.weights import config_reading

# What the compilers' names begin with, and the variables that they listen to.
COMPILERS = ("jax", "libtpu", "flax", "optax", "nvidia")
VARIABLES = ("JAX_", "XLA_", "LIBTPU_", "TPU_")
DIGITS = 32


def answer(
  question: dict, make: Callable[[Console], tuple[list[dict], bool]], anew: bool
) -> tuple[list[dict], bool]:
  """(rows, whether it fits) of a plan, printed; kept from now on.

  make: plans, and prints what it finds. anew: whether it is called even where
  an answer is kept.
  """
  place = folder() / f"{settings.digest(question, DIGITS)}.json"
  found = None if anew else _recall(place)
  if found:
    print(f"plan of {found['when']}, kept in {place}; --anew makes it anew")
    print(found["text"], end="")
    return found["rows"], found["fits"]
  console = Console(record=True)
  rows, fits = make(console)
  when = time.strftime("%Y-%m-%d %H:%M:%S")
  made = dict(when=when, text=console.export_text(), rows=rows, fits=fits)
  try:
    journal.replace(place, seal.put(json.dumps(made).encode()))
  except OSError as error:
    print(f"this plan is not kept: {error}", file=sys.stderr)
  return rows, fits


def folder() -> Path:
  """Where plans are kept: `synpo_jax/plans` in the user's cache folder."""
  return starting.users_folder() / "plans"


def question(c, **flags) -> dict:
  """All that an answer hangs on, for JSON.

  c: a config of training or of a pair run. flags: those of the command. Raises
  ValueError or OSError for a checkpoint whose configs cannot be read.
  """
  folder = c.model.checkpoint
  told = {k: v for k, v in os.environ.items() if k.startswith(VARIABLES)}
  asked = dict(
    config=c.to_dict(),
    flags=flags,
    sizes=config_reading.read_folder(folder) if folder else {},
    captions=first_lists.longest(c.data.pairs) if "data" in c else 0,
    variables=told,
    versions=versions(),
    source=source(),
  )
  return json.loads(json.dumps(asked, default=str))


def versions() -> dict[str, str]:
  """Of Python and the packages that compile, as installed."""
  found = {"python": sys.version}
  for package in importlib.metadata.distributions():
    name = package.name or ""
    if name.startswith(COMPILERS):
      found[name] = package.version
  return found


def source() -> str:
  """A name for all of our code that is Python."""
  whole = hashlib.sha256()
  for file in sorted(shipped.PACKAGE.rglob("*.py")):
    name = str(file.relative_to(shipped.PACKAGE))
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    whole.update(f"{name} {content}\n".encode())
  return whole.hexdigest()


def _recall(place: Path) -> dict | None:
  """What was kept; None for nothing, and for what is damaged."""
  with contextlib.suppress(OSError, ValueError):
    content, is_sealed = seal.take(place.read_bytes())
    return json.loads(content) if is_sealed else None
  return None
