"""Lines of the benchmarks' JSONL files."""

import pathlib
from collections.abc import Iterator

from synpo_jax.runtime import seal


def lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
  """(number, text) of the lines that are not blank.

  A line ends at its line feed alone: captions may hold U+2028 and its kin,
  where str.splitlines breaks as well. Raises ValueError naming a line that is
  not UTF-8, or a row of a journal of ours that is not as it was written.
  """
  for number, line in enumerate(path.read_bytes().splitlines(), 1):
    try:
      line, _ = seal.take(line)
    except seal.Broken as error:
      raise ValueError(f"{path} line {number}: {error}") from None
    try:
      text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
      raise ValueError(f"{path} line {number}: not UTF-8 text") from None
    if text.strip():
      yield number, text
