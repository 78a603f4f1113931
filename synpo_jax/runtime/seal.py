"""A checksum in the last field of a row of JSON, over all that stands before.

`{"id": "a"}` is sealed as `{"id": "a", "crc32": "0f1e2d3c"}`: any reader of
JSON takes it for one more field. Rows written without one are read as well.
A file of bytes that nobody else reads ends with the same mark.
"""

import re
import zlib

MARK = b', "crc32": "%08x"}'
LENGTH = len(MARK % 0)
WHOLE = re.compile(rb', "crc32": "([0-9a-f]{8})"}', re.DOTALL)
NEAR = 3  # bytes of a mark that may be others before it is no mark at all
# A field of this name where no mark is: other programs wrote the row anew.
NAMED = re.compile(rb'(?<!\\)"crc32"\s*:')


class Broken(ValueError):
  """A row, or a file, is not as it was written; the text says which."""


def put(row: bytes) -> bytes:
  """The row, one JSON object without a line feed, with its checksum."""
  return row[:-1] + MARK % zlib.crc32(row[:-1])


def take(row: bytes) -> tuple[bytes, bool]:
  """(the row as it was, whether it had a checksum); Broken if that differs.

  A damaged mark is told from a row without one: it still looks like a mark, or
  has its name. White space behind the row is nothing of it.
  """
  row = row.rstrip()
  mark, rest = row[-LENGTH:], row[:-LENGTH]
  match = WHOLE.fullmatch(mark)
  if not match:
    if _looks_like(mark) or NAMED.search(row):
      raise Broken("its checksum is damaged")
    return row, False
  if int(match.group(1), 16) != zlib.crc32(rest):
    raise Broken("its checksum differs: it is not as it was written")
  return rest + b"}", True


def put_bytes(content: bytes) -> bytes:
  """The content of a file with a checksum behind it."""
  return content + MARK % zlib.crc32(content)


def take_bytes(content: bytes) -> bytes:
  """What `put_bytes` was given; raises Broken where that differs."""
  match = WHOLE.fullmatch(content[-LENGTH:])
  rest = content[:-LENGTH]
  if not match or int(match.group(1), 16) != zlib.crc32(rest):
    raise Broken("its checksum is missing or differs")
  return rest


def _looks_like(mark: bytes) -> bool:
  """Whether a mark's own letters, its number aside, are nearly all here."""
  if len(mark) != LENGTH:
    return False
  start = LENGTH - 2 - 8
  pattern = MARK % 0
  places = [i for i in range(LENGTH) if not start <= i < start + 8]
  return sum(mark[i] != pattern[i] for i in places) <= NEAR
