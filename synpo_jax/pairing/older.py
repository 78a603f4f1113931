"""Pairs of a round and, perhaps, of those before it, as one file."""

import random
from collections.abc import Iterable
from pathlib import Path

from synpo_jax.pairing import ledger
from synpo_jax.runtime import journal

WAYS = ("drop", "keep", "mix")


def check(way: str, share: float | None) -> None:
  """Raises ValueError, in one line, for a choice that is none."""
  if way not in WAYS:
    raise ValueError(f"older={way!r}: choose one of {', '.join(WAYS)}")
  if (way == "mix") != (share is not None):
    raise ValueError(
      f"older_share={share} with older={way}: mix takes a share, others None"
    )
  if share is not None and not 0 < share < 1:  # NaN neither
    raise ValueError(
      f"older_share={share}: give a share of a round's pairs, between 0 and 1"
    )


def write(
  out: Path,
  new: Path,
  before: Iterable[Path],
  way: str,
  share: float | None,
  seed: int,
) -> dict[str, int]:
  """Writes the pairs that a round trains on; counts of new and older ones.

  The rows of each round stand in the order of their videos, whatever order
  they were judged in, with the name of the round before their ids.

  Args:
    out: the file, replaced in one step.
    new: make_pairs's workdir of this round, `…/NAME/pairs`.
    before: those of earlier rounds, the first one first.
    way: drop, keep, or mix, which draws older pairs until they are `share` of
      all, or until there are no more.
    seed: of that draw.

  Raises ValueError where the round has no pair of its own.
  """
  own = _rows(new)
  if not own:
    raise ValueError(
      f"{ledger.path(new, 'pairs')}: no pair in this round; summary.json "
      "beside it counts why"
    )
  older = []
  if way != "drop":
    older = [row for folder in before for row in _rows(folder)]
  if way == "mix":
    wanted = min(len(older), round(share / (1 - share) * len(own)))
    drawn = random.Random(seed).sample(range(len(older)), wanted)
    older = [older[index] for index in sorted(drawn)]
  journal.rewrite(out, [*older, *own])
  return {"new": len(own), "older": len(older)}


def _rows(folder: Path) -> list[dict]:
  rows = journal.read(ledger.path(folder, "pairs"))
  name = folder.parent.name
  return [row | {"id": f"{name}/{id_}"} for id_, row in sorted(rows.items())]
