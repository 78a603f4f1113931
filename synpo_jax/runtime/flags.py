"""Flags that several entries have, and what every entry does around its work.

A flag is defined once, as absl wants it.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator

from absl import app, flags, logging
from ml_collections import config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from synpo_jax.runtime import shipped, stopping

# What a user can put right, said in one line; all else is a bug with a trace.
EXPECTED = (ValueError, OSError)


class _ConfigParser(ConfigFileFlagParser):
  """Loads a config that is named by path or, if it is ours, by name alone."""

  def parse(self, path: str):
    """What get_config() returns, `path` being FILE or FILE:ARGUMENT."""
    name, *argument = path.split(":", 1)
    file = str(shipped.find_config(name))
    shipped.make_configs_importable()
    return super().parse(":".join((file, *argument)))


CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to do, as vdc:loss=dpo or a file, my_config.py."
)
flags.FLAGS["config"].parser = _ConfigParser("config")
WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of the run: what it reads, keeps and writes."
)
flags.register_validator(
  "workdir",
  lambda folder: folder is None or "://" not in folder,
  "buckets are not written to; mount one, and give its folder",
)
OUT = flags.DEFINE_string("out", None, "Folder to write into.")


def command(
  *required: str,
  also: tuple[str, ...] = (),
  errors: tuple[type[Exception], ...] = EXPECTED,
  kept: str = "",
) -> Callable[[Callable[[], None]], Callable[[], None]]:
  """Decorator that makes a function the `main` of an entry.

  required: flags that must be given. also: further ones of other files that
  --help lists. errors: kinds that end the program in one line. kept: what a
  signal to stop leaves, and how to go on (runtime.stopping).

  `python -m` and the console script both call main(), which reads sys.argv.
  """

  def decorate(work):
    @functools.wraps(work)
    def main():
      flags.mark_flags_as_required(required)
      _tell_help(sys.modules[work.__module__], required + also)
      with one_line(errors), stopping.in_one_line(kept):
        app.run(lambda argv: _start(argv, work))

    return main

  return decorate


def _start(argv, work):
  if len(argv) > 1:
    sys.exit(f"error: unexpected arguments {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)  # libraries tell too much otherwise
  work()


def _tell_help(entry, names):
  """What --help shows: absl takes it from the file that sys.argv[0] names,
  which is the entry itself only where `python -m` starts it."""
  sys.modules["__main__"].__doc__ = entry.__doc__
  own = flags.FLAGS.get_key_flags_for_module(entry)
  for flag in (*own, *(flags.FLAGS[name] for name in names)):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


@contextlib.contextmanager
def one_line(
  errors: tuple[type[Exception], ...] = EXPECTED,
) -> Iterator[None]:
  """Work whose errors of these kinds end the program, each in one line."""
  try:
    yield
  except errors as error:
    sys.exit(f"error: {error}")
