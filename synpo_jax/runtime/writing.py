"""What cannot be written, with the place that the system leaves out.

Opening a file that fails names it; writing into an open one does not.
"""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def at(place: pathlib.Path | str) -> Iterator[None]:
  """Work whose OSErrors name this place unless they name another."""
  try:
    yield
  except OSError as error:
    if error.errno is None or error.filename is not None:
      raise
    why = os.strerror(error.errno)
    raise OSError(error.errno, why, str(place)) from error


def way_out(error: Exception) -> str:
  """What to do about an error, to be said behind it; "" where none is known."""
  is_full = isinstance(error, OSError) and error.errno in FULL
  return "; make room there and start again" if is_full else ""
