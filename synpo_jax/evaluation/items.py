"""What a benchmark is, and the captions it wants."""

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np


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
  """How a benchmark lists its items and scores them, and on what data.

  measured: what scores are made from where no judge is asked, else "".
  """

  items: Callable
  score: Callable
  files: Callable  # config -> paths of what it reads
  measured: str

  @property
  def judged(self) -> bool:
    """Whether a judge is asked."""
    return not self.measured


def one_file(c) -> list[str]:
  """The references."""
  return [c.data.references]


def mean(values: Iterable[float | None]) -> float | None:
  """Mean of the values that there are; None where there is none."""
  present = [value for value in values if value is not None]
  return float(np.mean(present)) if present else None


def standard_error(values: Iterable[float | None]) -> float | None:
  """Of the mean of the values that there are; None of fewer than two."""
  present = [value for value in values if value is not None]
  if len(present) < 2:
    return None
  return float(np.std(present, ddof=1) / np.sqrt(len(present)))


def limited(names, limit: int) -> list[str]:
  return list(names)[: limit or None]
