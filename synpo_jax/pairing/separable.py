"""How far chosen and rejected are told apart without a look at the video.

Each rule is learnt on four fifths of the videos and asked about the last one,
five times over, so that what is counted is never what was learnt from. Chance
is 0.5 for all of them; a caption that a rule says nothing of counts half.
"""

import collections
import hashlib

import numpy as np
from jaxtyping import Float, Int

from synpo_jax.data.rows import Pair
from synpo_jax.pairing import words

FOLDS = 5
TELLING = 5  # words named for either caption


def folds(pairs: list[Pair]) -> Int[np.ndarray, "N"]:
  """Which part each pair is in; pairs of a video, or a question, together."""
  groups = [pair.video or pair.question for pair in pairs]
  mixed = sorted({*groups}, key=lambda x: hashlib.sha256(x.encode()).digest())
  place = {group: number % FOLDS for number, group in enumerate(mixed)}
  return np.array([place[group] for group in groups], int)


def by_length(
  lengths: Int[np.ndarray, "N 2"], fold: Int[np.ndarray, "N"]
) -> dict | None:
  """Which caption of a pair is longer; and one caption against a threshold.

  lengths: of chosen and rejected. Returns "pairs", the share of pairs told
  apart by what is more common, "longer" or "shorter" (as "chosen_is"); and
  "captions", the share of single captions on the right side of the threshold
  that parts the others best. None for pairs of one video.
  """
  if len(np.unique(fold)) < 2:
    return None
  sign = np.sign(lengths[:, 0] - lengths[:, 1])
  hits, single = np.zeros(len(fold)), []
  for part in np.unique(fold):
    held = fold == part
    hits[held] = _hits(sign[held] * np.sign(sign[~held].sum()))
    least, longer = _threshold(lengths[~held])
    above = lengths[held] >= least
    right = np.stack([above[:, 0], ~above[:, 1]]) == longer
    single.append(right.ravel())
  return {
    "pairs": _share(hits),
    "chosen_is": "longer" if sign.sum() >= 0 else "shorter",
    "captions": _share(np.concatenate(single)),
  }


def _threshold(lengths_N2) -> tuple[int, bool]:
  """The length from which a caption counts as chosen, or, False, as rejected.

  It puts most captions on their side; the smallest on ties.
  """
  ends = np.unique(lengths_N2)
  chosen, rejected = np.sort(lengths_N2, axis=0).T
  right = len(chosen) - np.searchsorted(chosen, ends)
  right = right + np.searchsorted(rejected, ends)
  far = np.abs(right - len(chosen))
  best = int(far.argmax())
  return int(ends[best]), bool(right[best] >= len(chosen))


def by_first_sentence(
  pairs: list[Pair], fold: Int[np.ndarray, "N"]
) -> dict | None:
  """Which words the first sentences hold: naive Bayes on their presence.

  Returns "pairs", the share of pairs whose chosen caption's first sentence has
  the higher odds, and "chosen_words" and "rejected_words", the words that tell
  most. None for pairs of one video.
  """
  if len(np.unique(fold)) < 2:
    return None
  only = [_only(pair) for pair in pairs]
  parts = [_counts(only, fold == part) for part in range(FOLDS)]
  total = collections.Counter()
  for part in parts:
    total.update(part)
  signs = np.zeros(len(pairs))
  for number, (ours, theirs) in enumerate(only):
    part = parts[fold[number]]
    odds = lambda word, part=part: _odds(total, part, word)  # noqa: E731
    signs[number] = np.sign(sum(map(odds, ours)) - sum(map(odds, theirs)))
  kinds = ("chosen_words", 0), ("rejected_words", 1)
  told = {name: _telling(total, side) for name, side in kinds}
  return {"pairs": _share(_hits(signs)), **told}


def _only(pair: Pair) -> tuple[list[str], list[str]]:
  """Words that only the chosen, only the rejected first sentence has, sorted.

  Those of both, which cancel out, are left out.
  """
  ours, theirs = (
    {*words.split(words.first_sentence(text))}
    for text in (pair.chosen, pair.rejected)
  )
  return sorted(ours - theirs), sorted(theirs - ours)


def _counts(only, held) -> collections.Counter:
  """{(word, side): first sentences that it is only in}."""
  found = collections.Counter()
  for number in np.flatnonzero(held):
    for side, own in enumerate(only[number]):
      found.update((word, side) for word in own)
  return found


def _odds(total, part, word) -> float:
  """Log of how much likelier a word makes a caption chosen, by other parts."""
  chosen, rejected = (total[word, side] - part[word, side] for side in (0, 1))
  return float(np.log((chosen + 1) / (rejected + 1)))


def _telling(total, side: int) -> list[str]:
  """The words whose counts are furthest apart, in favour of one side."""

  def distance(word):
    here, there = total[word, side], total[word, 1 - side]
    return (here - there) / np.sqrt(here + there)

  known = {word for word, _ in total}
  best = sorted(known, key=lambda word: (-distance(word), word))
  return [word for word in best[:TELLING] if distance(word) > 0]


def _hits(sign: np.ndarray) -> Float[np.ndarray, "N"]:
  """1 where a rule is right, 0 where it is wrong, 0.5 where it is silent."""
  return (sign + 1) / 2


def _share(hits) -> float:
  return round(float(np.mean(hits)), 4)
