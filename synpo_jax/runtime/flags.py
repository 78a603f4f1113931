"""Flags that several entries have, and what every entry does around its work.

A flag is defined once, as absl wants it.
"""

import contextlib
import functools
import re
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from absl import app, flags, logging
from ml_collections import config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from synpo_jax.runtime import (
  config_help,
  config_keys,
  shipped,
  starting,
  stopping,
  writing,
)

# What a user can put right, said in one line; all else is a bug with a trace.
EXPECTED = (ValueError, OSError)
HELP = ("--help", "-help", "--helpshort", "-h", "-?")
HELP += ("--helpfull", "-helpfull")  # and the flags of libraries, too
NAMED = re.compile(r"--config=(?:configs/)?(\w+)(?:\.py)?")
OPENS = re.compile(r"(?<=://)[^/?#\s]*@")  # user and password in an address


class _ConfigParser(ConfigFileFlagParser):
  """Loads a config that is named by path or, if it is ours, by name alone."""

  def parse(self, path: str):
    """What get_config() returns, `path` being FILE or FILE:ARGUMENT.

    Raises ValueError, in one line, for an argument that get_config() refuses
    and for keys on the command line that the config does not have.
    """
    name, *argument = path.split(":", 1)
    file = str(shipped.find_config(name))
    shipped.make_configs_importable()
    try:
      config = super().parse(":".join((file, *argument)))
    except (
      ValueError
    ) as error:  # with a trace; the one below it is get_config's
      raise ValueError(str(error.__context__ or error)) from error
    except TypeError as error:
      if argument and "positional argument" in str(error.__context__):
        raise ValueError(f"{name} takes no argument") from error
      raise
    argv = flags.FLAGS.read_flags_from_files(sys.argv, force_gnu=False)
    config_keys.check_known(config, config_keys.overridden(argv))
    return config


CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to do, as vdc:loss=dpo or a file, my_config.py."
)
flags.FLAGS["config"].parser = _ConfigParser("config")
config_keys.read_none()
WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of the run: what it reads, keeps and writes."
)
OUT = flags.DEFINE_string("out", None, "Folder to write into.")
KEEP_COMPILED = flags.DEFINE_boolean(
  "keep_compiled",
  True,
  "Keep compiled programs in the user's cache folder, for starts to come.",
)


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
      told = (*required, *also, "keep_compiled")
      _tell_help(sys.modules[work.__module__], told)
      with one_line(errors), stopping.in_one_line(kept):
        if not {*HELP}.isdisjoint(sys.argv[1:]):
          _help(sys.modules[work.__module__], "config" in required + also)
        app.run(lambda argv: _start(argv, work), flags_parser=_parse)

    return main

  return decorate


class Change(NamedTuple):
  """A value of the config that the command line gave, and the one before."""

  before: object
  now: object


def changed() -> dict[str, Change]:
  """What the command line gave of the config, by key, as "optim.lr"."""
  given = flags.FLAGS["config"].override_values
  return {
    name: Change(flags.FLAGS[f"config.{name}"].default, value)
    for name, value in given.items()
  }


def given() -> dict[str, object]:
  """The values that the command line gave, by key of the config."""
  return {key: change.now for key, change in changed().items()}


def config_name() -> str:
  """The --config that the command line gave."""
  return flags.FLAGS["config"].config_filename


def given_again(*but: str) -> list[tuple[str, str]]:
  """--config and its keys as the command line gave them, but for some keys.

  It will be shown: a server's key, and what opens an address, are left out.
  """
  kept = (
    (f"config.{key}", OPENS.sub("", str(value.now)))
    for key, value in changed().items()
    if key not in but and key.rpartition(".")[2] != "key"
  )
  return [("config", config_name()), *kept]


def _parse(argv):
  """Reads the flags; what they hold and should not ends in one line."""
  try:
    rest = flags.FLAGS(argv)
    if CONFIG.value is not None:
      values = flags.FLAGS["config"].override_values
      config_keys.check_none(CONFIG.value, values)
      as_named = _ConfigParser("config").parse(config_name())
      config_keys.check_sections(as_named, values)
    return rest
  except (flags.Error, ValueError) as error:
    sys.exit(f"error: {error}")


def _start(argv, work):
  if len(argv) > 1:
    sys.exit(f"error: unexpected arguments {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)  # libraries tell too much otherwise
  starting.take_gpu()
  starting.give_threads()
  if KEEP_COMPILED.value and not _is_one_of_many():
    starting.keep_programs()
  work()


def _is_one_of_many() -> bool:
  """Whether this process is to join others, as flags of runtime.hosts say.

  Each would find other programs in a cache of its own, and those that compile
  may wait for the others, which do not. JAX_COMPILATION_CACHE_DIR can name a
  folder that all of them share.
  """
  names = {"distributed", "coordinator"} & set(flags.FLAGS)
  return any(flags.FLAGS[name].value for name in names)


def _tell_help(entry, names):
  """What --help shows: absl takes it from the file that sys.argv[0] names,
  which is the entry itself only where `python -m` starts it."""
  sys.modules["__main__"].__doc__ = entry.__doc__
  own = flags.FLAGS.get_key_flags_for_module(entry)
  for flag in (*own, *(flags.FLAGS[name] for name in names)):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _help(entry, takes_config):
  """Shows what an entry does, its flags and its config's keys; leaves with 0.

  The config is the one that the command line names, else the only one that
  the entry's docstring does.
  """
  whole = not {"--helpfull", "-helpfull"}.isdisjoint(sys.argv[1:])
  app.usage(shorthelp=not whole, writeto_stdout=True)
  if takes_config:
    print(f"keys of the config:\n{_config_help(entry.__doc__)}")
  sys.exit(0)


def _config_help(doc):
  name = _given_config()
  if not name:
    usual = sorted(set(NAMED.findall(doc)) & set(shipped.configs()))
    if len(usual) != 1:
      return f"  name one, as --config={usual[0]} --help: {', '.join(usual)}"
    name = usual[0]
  config = _ConfigParser("config").parse(name)
  file = shipped.find_config(name.partition(":")[0])
  return (
    f"  (those of --config={name}; of another: --config=NAME --help)\n"
    f"{config_help.listing(file, config)}"
  )


def _given_config():
  """The last --config of the command line, or ""."""
  given, arguments = "", iter(sys.argv[1:])
  for argument in arguments:
    name, equals, value = argument.lstrip("-").partition("=")
    if argument.startswith("-") and name == "config":
      given = value if equals else next(arguments, "")
  return given


@contextlib.contextmanager
def one_line(
  errors: tuple[type[Exception], ...] = EXPECTED,
) -> Iterator[None]:
  """Work whose errors of these kinds end the program, each in one line."""
  try:
    yield
  except errors as error:
    sys.exit(f"error: {error}{writing.way_out(error)}")
