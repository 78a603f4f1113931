"""Names of folders replaced by others in all that is said."""

import contextlib
import sys
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def as_named(names: Mapping[str, str]) -> Iterator[None]:
  """Work whose output and errors say one name where they mean another."""
  streams = sys.stdout, sys.stderr
  sys.stdout, sys.stderr = (Stream(stream, names) for stream in streams)
  try:
    yield
  except (OSError, ValueError, SystemExit) as error:
    error.args = tuple(_replaced(arg, names) for arg in error.args)
    if isinstance(error, SystemExit):
      error.code = _replaced(error.code, names)
    # Setting it, even to None, changes what an OSError without one says.
    if isinstance(error, OSError) and error.filename is not None:
      error.filename = _replaced(error.filename, names)
    raise
  finally:
    sys.stdout, sys.stderr = streams


class Stream:
  """A text stream that replaces names in what is written to it."""

  def __init__(self, stream, names: Mapping[str, str]):
    self._stream, self._names = stream, names

  def write(self, text: str) -> int:
    """Writes the text with the names replaced."""
    return self._stream.write(_replaced(text, self._names))

  def __getattr__(self, name):
    return getattr(self._stream, name)


def _replaced(text, names):
  if isinstance(text, str):
    for old, new in names.items():
      text = text.replace(old, new)
  return text
