"""A limit on the size of files, which stands for a disk that is full."""

import contextlib
import resource


@contextlib.contextmanager
def limited(size: int):
  """No file grows beyond so many bytes; writing fails as on a full disk."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
