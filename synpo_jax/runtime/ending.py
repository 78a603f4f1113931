"""How a command ends: what came out, where it lies, what to type next."""

import shlex
from collections.abc import Mapping


def command(entry: str, *given: tuple[str, object]) -> str:
  """What to type for an entry, as `caption`, with flags given as (name, value).

  A flag whose value is None is left out.
  """
  flags = (f"--{name}={value}" for name, value in given if value is not None)
  return shlex.join(["python", "-m", f"synpo_jax.{entry}", *flags])


def show(made: Mapping[str, object], *commands: str) -> None:
  """Prints a line for each thing that was made, and what to type next.

  made: what it is -> where it lies.
  """
  for what, place in made.items():
    print(f"{what}: {place}")
  if commands:
    print("next:", *commands, sep="\n  ", flush=True)
