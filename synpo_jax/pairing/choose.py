"""Judgements to pairs: which candidate is chosen, which rejected, and why not.

A candidate counts when all three criteria were judged; what is missing is
never a number. The rule for both captions is explicit and the same for every
loss that trains on the pairs.
"""

from typing import NamedTuple

from synpo_jax.pairing import words
from synpo_jax.pairing.criteria import WEIGHTS

# What the rejected caption is taken by -> the settings that it needs.
NEGATIVES = {
  "worst": (),
  "second_worst": (),
  "gap": ("target_gap",),
  "quantile": ("quantiles",),
  "length": ("least_gap", "tolerance"),
  "corrupted": ("least_gap",),
}
NO_CANDIDATES = "fewer than two judged candidates"
NONE_BELOW = "no caption lower by least_gap"
NONE_CORRUPTED = "no judged caption of the corrupted video"
OTHER_LENGTHS = "no lower candidate of about the chosen one's length"


class Rule(NamedTuple):
  """How a pair is chosen; what a `negative` does not need is None.

  negative: a key of NEGATIVES. target_gap: points between both captions.
  quantiles: of a video's scores at which both stand, chosen first.
  least_gap: points that the rejected caption is lower. tolerance: of its
  tokens and the chosen one's, at most, as a share of the latter.
  """

  negative: str
  target_gap: float | None
  quantiles: tuple[float, float] | None
  least_gap: float | None
  tolerance: float | None


WORST = Rule("worst", None, None, None, None)


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
  rule: Rule,
  own: int | None = None,
) -> Choice | str:
  """The pair of a video, or the reason why there is none.

  Chosen is the first of the best; with `quantile` the one at that quantile of
  the scores. Of candidates with the same words (case and spacing aside) only
  the first counts. Rejected is, by rule.negative: the `worst` of the others;
  the `second_worst`, one place above it in the order of (score, index), equal
  scores or not; by `gap` the one whose distance to the chosen score is nearest
  to target_gap, the earlier on ties; by `quantile` the one at that quantile;
  by `length`, of those that are least_gap lower, the one whose count of tokens
  (words and marks) is nearest to the chosen one's, the lower on ties; by
  `corrupted` the worst of captions[own:], which are of the corrupted video and
  count for nothing else, if it is least_gap lower.
  """
  judged = distinct(captions, scores)
  own = len(captions) if own is None else own
  ours = [pair for pair in judged if pair[1] < own]
  spoilt = [pair for pair in judged if pair[1] >= own]
  of_others = rule.negative == "corrupted"
  if len(ours) < (1 if of_others else 2):
    known = sum(score is not None for score in scores[:own])
    return "same words" if known > 1 else NO_CANDIDATES
  best = _chosen(ours, rule)
  others = sorted(spoilt if of_others else {*ours} - {best})
  if not others:
    return NONE_CORRUPTED
  found = _reject(others, best, captions, rule)
  if isinstance(found, str):
    return found
  return Choice(best[1], found[1]) if found[0] < best[0] else "equal scores"


def distinct(captions, scores) -> list[tuple[float, int]]:
  """(score, index) of the judged candidates that say something of their own."""
  judged, seen = [], set()
  for index, (caption, score) in enumerate(zip(captions, scores, strict=True)):
    said = " ".join(caption.casefold().split())
    if score is not None and said not in seen:
      seen.add(said)
      judged.append((score, index))
  return judged


def _chosen(judged, rule: Rule) -> tuple[float, int]:
  best_first = sorted(judged, key=lambda pair: (-pair[0], pair[1]))
  top = 1.0 if rule.quantiles is None else rule.quantiles[0]
  return best_first[_place(1 - top, len(judged))]


def _place(share: float, count: int) -> int:
  """The place nearest to a share of the way through a list, 0 to 1."""
  return int(share * (count - 1) + 0.5)


def _reject(others, best, captions, rule: Rule):
  """(score, index) of the rejected caption, or why there is none.

  others: the remaining candidates, the worst first.
  """
  if rule.negative == "worst":
    return others[0]
  if rule.negative == "second_worst":
    return others[1] if len(others) > 1 else "no second worst candidate"
  if rule.negative == "quantile":
    found = sorted([*others, best])[_place(rule.quantiles[1], len(others) + 1)]
    return "one candidate at both quantiles" if found == best else found
  if rule.negative == "length":
    return _of_length(others, best, captions, rule)
  if rule.negative == "corrupted":
    below = best[0] - others[0][0] >= rule.least_gap
    return others[0] if below else NONE_BELOW
  below = [pair for pair in others if pair[0] < best[0]] or others
  distance = lambda pair: abs(best[0] - pair[0] - rule.target_gap)  # noqa: E731
  return min(below, key=lambda pair: (distance(pair), pair[1]))


def _of_length(others, best, captions, rule: Rule):
  below = [pair for pair in others if best[0] - pair[0] >= rule.least_gap]
  if not below:
    return NONE_BELOW
  length = words.count(captions[best[1]])
  off = lambda pair: abs(words.count(captions[pair[1]]) - length)  # noqa: E731
  nearest = min(below, key=lambda pair: (off(pair), pair))
  return nearest if off(nearest) <= rule.tolerance * length else OTHER_LENGTHS


def check(rule: Rule) -> None:
  """Raises ValueError, in one line, for a rule that is not one."""
  if rule.negative not in NEGATIVES:
    raise ValueError(
      f"pairs.negative={rule.negative!r}: choose one of {', '.join(NEGATIVES)}"
    )
  needed = NEGATIVES[rule.negative]
  for name, value in rule._asdict().items():
    if name != "negative" and (name in needed) != (value is not None):
      raise ValueError(
        f"pairs.{name}={value} with negative={rule.negative}: that takes "
        f"{' and '.join(needed) or 'none'}, and None for the others"
      )
  if rule.quantiles is not None:
    check_quantiles("quantiles", tuple(reversed(rule.quantiles)))
  for name in ("least_gap", "tolerance"):
    value = getattr(rule, name)
    if value is not None and not value >= 0:  # NaN neither
      raise ValueError(f"pairs.{name}={value}: must be at least 0")


def check_quantiles(name: str, ends) -> None:
  """Raises ValueError unless these are two quantiles, the lower first."""
  if len(ends) != 2 or not 0 <= ends[0] < ends[1] <= 1:
    told = "(chosen, rejected)" if name == "quantiles" else "(low, high)"
    raise ValueError(
      f"pairs.{name}: {told} must be two different numbers from 0 to 1, in "
      "that order of size"
    )
