"""What a benchmark is, and the captions it wants."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple


class Item(NamedTuple):
  """A caption that a benchmark wants: of a video, for a category of it.

  prompts: what the captioner may be asked; `choose_prompt` picks one.
  """

  id: str
  video: str
  category: str
  prompts: tuple[str, ...]


def choose_prompt(item: Item, seed: int) -> str:
  """One of the item's prompts, by the seed and the item's own name."""
  name = f"{seed}/{item.id}".encode()
  number = int.from_bytes(hashlib.sha256(name).digest()[:8], "big")
  return item.prompts[number % len(item.prompts)]


def refuse_missing(path, items: list[Item], found, *, only_predicted: bool):
  """Raises ValueError for items without a row, unless those found suffice."""
  missing = [item.id for item in items if item.id not in found]
  if missing and (not only_predicted or not found):
    raise ValueError(
      f"{path}: nothing for {len(missing)} of {len(items)} items, as "
      f"{missing[0][:60]!r}; --config.only_predicted scores what is there"
    )


class Benchmark(NamedTuple):
  """How a benchmark lists its items and scores them, and on what data."""

  items: Callable
  score: Callable
  files: Callable  # config -> paths of what it reads
  judged: bool


def one_file(c) -> list[str]:
  """The references."""
  return [c.data.references]


def limited(names, limit: int) -> list[str]:
  return list(names)[: limit or None]
