"""The keys of a config by their dotted names, and which may be None.

A key that may be None holds a FieldReference: `config_dict.placeholder(float)`
where it is None at first, else as `optional(4.0)`.
"""

import difflib
import functools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

NONE = "None"  # as the command line says it
# Sections whose keys depend on another value, or are names of their own.
FREE = ("loss.coefficients", "model.arch", "losses")
OVERRIDE = re.compile(r"--?(?:no)?config\.([\w.]+)")


class Key(NamedTuple):
  """A key, its value, and whether that may be None. kind: of other values."""

  name: str  # with the sections it lies in, as "optim.lr"
  value: object
  optional: bool
  kind: type


def keys(config: ConfigDict, prefix: str = "") -> Iterator[Key]:
  """Yields what a config holds: values, then section after section."""
  fields = config.items(preserve_field_references=True)
  for name, field in sorted(fields, key=lambda item: _is_section(item[1])):
    full = prefix + name
    if _is_section(field):
      yield from keys(field, f"{full}.")
    elif isinstance(field, config_dict.FieldReference):
      yield Key(full, field.get(), True, field.get_type())
    else:
      yield Key(full, field, False, type(field))


def _is_section(field) -> bool:
  return isinstance(field, ConfigDict) and len(field) > 0


def overridden(argv: Iterable[str]) -> list[str]:
  """The keys that a command line gives, as `--config.optim.lr=1`."""
  found = (OVERRIDE.match(argument) for argument in argv)
  return [match[1] for match in found if match]


def check_known(config: ConfigDict, names: Iterable[str]) -> None:
  """Raises ValueError, one line with the nearest keys, for one not there."""
  for name in names:
    holder = config
    for part in name.split("."):
      if not isinstance(holder, ConfigDict) or part not in holder:
        raise ValueError(
          f"--config.{name}: the config has no such key; "
          f"nearest: {_nearest(name, [key.name for key in keys(config)])}"
        )
      holder = holder[part]


def check_sections(config: ConfigDict, values: dict) -> None:
  """Raises ValueError for a section given whole with keys not its own.

  config: as it was before. values: what the command line gave, by key.
  Sections whose keys others choose (FREE) are for whoever reads them.
  """
  for name, now in values.items():
    before = functools.reduce(lambda c, part: c[part], name.split("."), config)
    if not _is_section(before) or name in FREE:
      continue
    known, found = set(before), set(now)
    for key in sorted(found - known):
      raise ValueError(
        f"--config.{name}: {key} is none of its keys; nearest: "
        f"{_nearest(key, sorted(known))}"
      )
    if known - found:
      raise ValueError(
        f"--config.{name} replaces the whole section and lacks "
        f"{', '.join(sorted(known - found))}; set keys one by one, as "
        f"--config.{name}.{sorted(found or known)[0]}=…"
      )


def check_none(config: ConfigDict, values: dict) -> None:
  """Raises ValueError where a key was given None that may not be None.

  values: what the command line gave, by key.
  """
  may = {key.name for key in keys(config) if key.optional}
  for name, value in values.items():
    if value is None and name not in may:
      raise ValueError(
        f"--config.{name}=None: this key needs a value; those that may be "
        f"None: {', '.join(sorted(may)) or 'none'}"
      )


def _nearest(name: str, known: list[str]) -> str:
  """Keys of that name in other sections, then those written most alike."""
  last = name.rpartition(".")[2]
  same = [key for key in known if key.rpartition(".")[2] == last]
  alike = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
  found = list(dict.fromkeys(same + alike))[:4]
  return ", ".join(found or known)


class _OrNone:
  """A parser of a command line's values that reads None as well."""

  def parse(self, argument):
    return None if argument == NONE else super().parse(argument)


class _Float(_OrNone, flags.FloatParser):
  pass


class _Integer(_OrNone, flags.IntegerParser):
  pass


class _Text(_OrNone, flags.ArgumentParser):
  pass


def read_none() -> None:
  """From now on numbers and texts of a config can be given as None.

  Which of them may be is for `check_none`: a parser sees no key.
  """
  for kind, parser in ((float, _Float()), (int, _Integer()), (str, _Text())):
    config_flags.register_flag_parser_for_type(kind, parser)
