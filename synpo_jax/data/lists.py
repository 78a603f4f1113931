"""Rows of all judged captions of a prompt: `captions` and their `scores`."""

from typing import Any, NamedTuple

from synpo_jax.data import turns
from synpo_jax.data.media import Fault

FEWEST, MOST = 2, 16  # captions of a row
NAMES = ("captions", "scores")
FORM = "all candidates (question, captions, scores)"
LARGEST = 1e30  # of a score, whose differences float32 has to hold


class Listed(NamedTuple):
  """Captions of a prompt and their scores, best first; ties as in the row."""

  captions: tuple[str, ...]
  scores: tuple[float, ...]


def is_list(row: dict[str, Any]) -> bool:
  """Whether a row holds judged captions: both columns, or one and no pair."""
  there = row.keys() & {*NAMES}
  listed = any(isinstance(row[name], list) for name in there)
  return listed and (len(there) == 2 or "chosen" not in row)


def as_pair(row: dict[str, Any]) -> dict[str, Any]:
  """The row as a pair, its best caption against its worst, its list ordered.

  Of several as bad the first, as make_pairs has it.

  Raises:
    Fault: what of its captions or scores cannot be used.
  """
  for name in ("chosen", "rejected"):
    if row.get(name) is not None:
      raise Fault(f"{name!r} stands beside 'captions' and 'scores'")
  found = read(row)
  worst = max(1, found.scores.index(found.scores[-1]))
  ends = {
    "chosen": found.captions[0],
    "rejected": found.captions[worst],
    "chosen_score": found.scores[0],
    "rejected_score": found.scores[-1],
  }
  return row | found._asdict() | ends


def read(row: dict[str, Any]) -> Listed:
  """The captions and scores of a row; raises Fault."""
  for name in NAMES:
    if row.get(name) is None:
      raise Fault(f"lacks {name!r}")
    if not isinstance(row[name], list):
      raise Fault(f"{name!r} is a {type(row[name]).__name__}, not a list")
  texts, scores = row["captions"], row["scores"]
  if not FEWEST <= len(texts) <= MOST:
    raise Fault(f"'captions' holds {len(texts)}; a row has {FEWEST} to {MOST}")
  if len(texts) != len(scores):
    raise Fault(f"'captions' holds {len(texts)}, 'scores' {len(scores)}")
  seen = {}
  for number, caption in enumerate(texts):
    name = f"captions[{number}]"
    words = turns.text({name: caption}, name).strip()
    if words in seen:
      raise Fault(f"{seen[words]!r} and {name!r} are the same text")
    seen[words] = name
  for number, value in enumerate(scores):
    check_score(f"scores[{number}]", value)
  order = sorted(range(len(scores)), key=lambda n: -scores[n])
  return Listed(
    tuple(texts[n] for n in order), tuple(float(scores[n]) for n in order)
  )


def check_score(name: str, value: Any) -> None:
  """Raises Fault for what is no finite number, or beyond float32's sums."""
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if not number or not abs(value) <= LARGEST:  # NaN neither
    raise Fault(
      f"{name!r} is {value!r:.40}, not a finite number up to {LARGEST:g}"
    )


def check_order(found: Listed) -> None:
  """Raises Fault where no caption is better than another."""
  if found.scores[0] == found.scores[-1]:
    raise Fault(
      f"all scores are {found.scores[0]:g}, so no caption is better than "
      "another; take the row out, or set min_score_gap above 0"
    )
