"""What became of the rows of a run: counted, listed, and said in a line."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from synpo_jax.data import lists, pairs
from synpo_jax.data.files import Place
from synpo_jax.runtime import journal

DROPPED = "dropped: "  # how a reason begins among counts
QUARANTINED = f"{DROPPED}video quarantined"
BELOW_GAP = f"{DROPPED}score gap too small"


class Dropped(NamedTuple):
  """A row that is not trained on, and why."""

  place: Place
  id: str
  reason: str


def count(
  read: pairs.Filtered, lost: dict[str, int], misfits: dict, used: int
) -> dict[str, int]:
  """How many rows were used, changed or dropped, and why, in words.

  lost: counts of the videos' part. misfits: of the tokens'.
  """
  return {
    "rows read": len(read.places),
    BELOW_GAP: len(read.below_gap),
    "marks of the video taken out of questions": read.marks,
    **lost,
    **misfits,
    "rows used": used,
  }


def summary(counts: dict[str, int]) -> str:
  """Counts as one line, without those that are zero."""
  return ", ".join(f"{n} {what}" for what, n in counts.items() if n)


def dropped(
  read: pairs.Filtered, kept: Sequence[pairs.Pair], unfit: dict[int, str]
) -> list[Dropped]:
  """The rows that are left out, in order of their places.

  kept: the pairs whose video can be used. unfit: why some of them have no
  tokens, by their number.
  """
  usable = {pair.id for pair in kept}
  reasons = {pair.id: BELOW_GAP for pair in read.below_gap}
  reasons |= {p.id: QUARANTINED for p in read.pairs if p.id not in usable}
  reasons |= {kept[number].id: why for number, why in unfit.items()}
  return [
    Dropped(place, name, reasons[name].removeprefix(DROPPED))
    for name, place in read.places.items()
    if name in reasons
  ]


def write_dropped(path: Path, rows: Iterable[Dropped]) -> None:
  """Writes JSON lines: file, row (counted from 1), id and reason of each."""
  journal.rewrite(
    path,
    [
      {"file": str(place.file), "row": place.number, "id": name, "reason": why}
      for place, name, why in rows
    ],
  )


def forms(wanted: str, read: pairs.Filtered) -> list[str]:
  """A line for each form that the rows of `wanted` have, the usual first."""
  found = len({place.file for place in read.places.values()})
  where = f"{wanted} ({found} files)" if found > 1 else wanted
  counted = read.forms.most_common()
  if len(counted) == 1:
    return [f"{where}: rows of {counted[0][0]}"]
  return [f"{where}: {count} rows of {form}" for form, count in counted]


def of_lists(read: pairs.Filtered, captions: int) -> list[str]:
  """A line where a loss reads fewer captions than rows of lists hold."""
  if lists.FORM not in read.forms or captions == lists.MOST:
    return []
  taken = "best caption" if captions == 1 else "best and the worst caption"
  return [
    f"of each list the {taken} alone; loss.all_pairs, or a loss of lists "
    "(docs/lists.md), reads all"
  ]
