"""How many captions the lists have that a file of pairs begins with."""

import itertools

from synpo_jax.data import files, lists

ROWS = 100  # that are looked at


def longest(pairs: str) -> int:
  """Captions of the longest among the first rows; MOST without a file.

  pairs: data.pairs of a config.
  """
  try:
    streams = map(files.stream, files.find(pairs))
    every = itertools.chain.from_iterable(streams)
    held = [row for _, row in itertools.islice(every, ROWS)]
  except (ValueError, OSError):
    return lists.MOST
  found = [row.get("captions") for row in held if isinstance(row, dict)]
  found = [len(texts) for texts in found if isinstance(texts, list)]
  longest = max(found, default=lists.FEWEST if held else lists.MOST)
  return min(max(longest, lists.FEWEST), lists.MOST)
