"""Judgements to pairs: which candidate is chosen, which rejected, and why not.

A candidate counts when all three criteria were judged; what is missing is
never a number. The rule for the rejected caption is explicit and the same
for every loss that trains on the pairs.
"""

from typing import NamedTuple

from synpo_jax.pairing.criteria import WEIGHTS

NEGATIVES = ("worst", "second_worst", "gap")


class Choice(NamedTuple):
  """Indices into a video's candidates."""

  chosen: int
  rejected: int


def totals(judgement: dict, captions: list[str]) -> list[float | None]:
  """1.1 factuality + fluency + consistency of each candidate, 0..13.5.

  None where a criterion is missing or the caption is empty.
  """
  scores = [judgement[criterion] for criterion in WEIGHTS]
  return [
    _total(parts) if caption.strip() else None
    for caption, *parts in zip(captions, *scores, strict=True)
  ]


def _total(parts):
  if None in parts:
    return None
  weighed = zip(WEIGHTS.values(), parts, strict=True)
  return round(sum(weight * part for weight, part in weighed), 6)


def choose(
  captions: list[str],
  scores: list[float | None],
  *,
  negative: str,
  target_gap: float | None,
) -> Choice | str:
  """The pair of a video, or the reason why there is none.

  Chosen is the first of the best. Of candidates with the same words (case and
  spacing aside) only the first counts. Rejected is, by `negative`: the
  `worst` of the others; the `second_worst`, one place above it in the order
  of (score, index), equal scores or not; or by `gap` the one whose distance
  to the chosen score is nearest to `target_gap`, the earlier on ties.
  """
  judged, seen = [], set()
  for index, (caption, score) in enumerate(zip(captions, scores, strict=True)):
    words = " ".join(caption.casefold().split())
    if score is not None and words not in seen:
      seen.add(words)
      judged.append((score, index))
  if len(judged) < 2:
    known = sum(score is not None for score in scores)
    return "same words" if known > 1 else "fewer than two judged candidates"
  best, chosen = max(judged, key=lambda pair: (pair[0], -pair[1]))
  others = sorted(pair for pair in judged if pair[1] != chosen)
  if negative == "second_worst" and len(others) < 2:
    return "no second worst candidate"
  score, rejected = _reject(others, best, negative, target_gap)
  return Choice(chosen, rejected) if score < best else "equal scores"


def _reject(others, best, negative, target_gap):
  if negative == "worst":
    return others[0]
  if negative == "second_worst":
    return others[1]
  below = [pair for pair in others if pair[0] < best] or others
  return min(
    below, key=lambda pair: (abs(best - pair[0] - target_gap), pair[1])
  )


def check(negative: str, target_gap: float | None) -> None:
  """Raises ValueError for a rule that is not one."""
  if negative not in NEGATIVES:
    raise ValueError(
      f"pairs.negative={negative!r}: choose one of {', '.join(NEGATIVES)}"
    )
  if (negative == "gap") != (target_gap is not None):
    raise ValueError(
      "pairs.target_gap is needed for negative=gap, and must be None "
      f"otherwise; got {target_gap} with negative={negative}"
    )
