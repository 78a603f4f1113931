"""Where prompts and captions lie in a row."""

import dataclasses

import jax

from synpo_jax.data.batch import SEGMENTS


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Slots:
  """A row [prefix | caption 0 | caption 1 ...], in positions.

  prefix: of the prompt. length: of the slot of each of `count` captions. It
  is static: it passes through transformations as part of a tree.
  """

  prefix: int
  length: int
  count: int

  @property
  def later(self) -> tuple[tuple[int, int], ...]:
    """(start, distance to slot 0) of every slot but the first."""
    steps = (c * self.length for c in range(1, self.count))
    return tuple((self.prefix + step, step) for step in steps)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Pairs:
  """Rows of several pairs, of which segments alone say where they lie."""


def prompt_of(segments):
  """The segment of the prompt that each position stands behind, or is of.

  segments: as `attention.attend` has them; of padding 1.
  """
  return ((segments - 1).clip(0) & -SEGMENTS) + 1


def pair_of(segments):
  """The number in its row of each position's pair; of padding 0."""
  return (segments - 1).clip(0) // SEGMENTS


def sees(slots: Slots | None, window: int | None, query, key):
  """Whether the query at one index of a row sees the key at another.

  query, key: integer arrays that broadcast against each other, NumPy's or
  JAX's. None for slots: a plain causal row. A caption sees the prefix and
  itself, and its positions go on where the prefix ends; with a window only
  keys less than `window` positions back are seen. Padding is not considered.
  Compares only, as a kernel must compute it for each block.
  """
  seen = key <= query
  for start, _ in slots.later if slots else ():
    seen &= ~((query >= start) & (key >= slots.prefix) & (key < start))
  if window is None:
    return seen
  near = query - key < window
  for start, step in slots.later if slots else ():
    from_prefix = (query >= start) & (key < slots.prefix)
    near |= from_prefix & (query - key < window + step)
  return seen & near
