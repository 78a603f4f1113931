"""Rows that say the same as others, word for word or nearly.

Nearly the same are texts that share at least NEAR of their runs of three
words. They are found by minima of hashes (MinHash): 16 keys of 4 minima find
99.9 % of those, and each is then compared word by word.
"""

import zlib

import numpy as np

from synpo_jax.data.rows import Pair
from synpo_jax.pairing import words

NEAR = 0.8
KEYS, MINIMA, RUN = 16, 4, 3
FACTORS = np.random.default_rng(0).integers(
  1, 2**63, (KEYS * MINIMA, 1), np.uint64
) | np.uint64(1)


def find(pairs: list[Pair]) -> dict[str, list[str]]:
  """Ids of pairs that copy an earlier one, or whose captions copy each other.

  "exact": same video, question and captions, but for case, spaces and marks.
  "near": the captions of both are nearly those of an earlier row, of any
  video. "alike": chosen and rejected are nearly the same text.
  """
  seen, found = set(), {"exact": [], "near": [], "alike": []}
  index = Index()
  for pair in pairs:
    sides = [" ".join(_said(x)) for x in (pair.chosen, pair.rejected)]
    key = (pair.video, pair.question, *sides)
    own, other = map(runs, sides)
    copied = index.known(np.union1d(own, other + np.uint64(1)))
    if key in seen:
      found["exact"].append(pair.id)
    elif copied:
      found["near"].append(pair.id)
    if shared(own, other) >= NEAR:
      found["alike"].append(pair.id)
    seen.add(key)
  return found


def _said(text: str) -> list[str]:
  """Its words, without marks."""
  return [word for word in words.split(text) if word[0].isalnum()]


def runs(said: str) -> np.ndarray:
  """Hashes uint64 [n] of the runs of three words, each once, sorted."""
  all_words = said.split()
  count = max(1, len(all_words) - RUN + 1)
  parts = (" ".join(all_words[at : at + RUN]) for at in range(count))
  hashes = {zlib.crc32(part.encode()) for part in parts}
  return np.array(sorted(hashes), np.uint64) << np.uint64(1)


def shared(one: np.ndarray, other: np.ndarray) -> float:
  """Runs that both have, as a share of those that either has (Jaccard)."""
  both = len(np.intersect1d(one, other, assume_unique=True))
  return both / (len(one) + len(other) - both)


class Index:
  """Texts so far that are not near an earlier one."""

  def __init__(self):
    self._texts, self._keys = [], {}

  def known(self, own: np.ndarray) -> bool:
    """Whether a text near this one was there before; else it is kept."""
    minima = ((FACTORS * own[None]) >> np.uint64(32)).min(axis=1)
    keys = [
      (number, key.tobytes())
      for number, key in enumerate(minima.reshape(KEYS, MINIMA))
    ]
    candidates = {self._keys[key] for key in keys if key in self._keys}
    if any(shared(own, self._texts[n]) >= NEAR for n in candidates):
      return True
    for key in keys:
      self._keys.setdefault(key, len(self._texts))
    self._texts.append(own)
    return False
