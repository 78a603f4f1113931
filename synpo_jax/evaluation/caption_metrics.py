"""CIDEr-D, BLEU and ROUGE-L of captions, in plain Python, and their variety.

Every function takes token lists: `predictions` has one per video and
`references` one or more per video, in the same order. `tokenizer.tokenize`
makes such lists from text. Scores are the raw ones (0..1, CIDEr-D 0..10);
papers print them times 100.
"""

import collections
import math

import numpy as np

Tokens = list[str]


def ngram_counts(tokens: Tokens, n: int) -> collections.Counter:
  """How often each n-gram of length `n` occurs."""
  return collections.Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def cider_d(
  predictions: list[Tokens],
  references: list[list[Tokens]],
  *,
  orders: int = 4,
  sigma: float = 6.0,
) -> tuple[float, list[float]]:
  """CIDEr-D over the corpus and per video (Vedantam et al., 1411.5726).

  Term weights are counts times log(videos / videos whose references hold the
  n-gram); the cosine clips the prediction's weights at the reference's, a
  Gaussian of width `sigma` punishes a difference in length, and orders 1 to
  `orders` are averaged, then references, then times 10. Lengths are counted
  in bigrams, as the published scorer does. One video alone scores 0: its
  every weight is log(1).
  """
  _same_length(predictions, references)
  frequency = collections.Counter()
  for video in references:
    grams = {g for r in video for n in range(orders) for g in _grams(r, n + 1)}
    frequency.update(grams)
  log_videos = math.log(len(references))

  def weigh(tokens):
    weights = []
    for n in range(1, orders + 1):
      weights.append(
        {
          gram: count * (log_videos - math.log(max(1, frequency[gram])))
          for gram, count in ngram_counts(tokens, n).items()
        }
      )
    norms = [math.sqrt(sum(x * x for x in w.values())) for w in weights]
    return weights, norms, max(0, len(tokens) - 1)

  scores = []
  for prediction, video in zip(predictions, references, strict=True):
    guess = weigh(prediction)
    cosines = [_clipped_cosine(guess, weigh(r), sigma) for r in video]
    scores.append(10.0 * float(np.mean(cosines)))
  return float(np.mean(scores)), scores


def _grams(tokens, n):
  return ngram_counts(tokens, n).keys()


def _clipped_cosine(guess, truth, sigma) -> float:
  """Mean over orders of the clipped cosine, damped by the length gap."""
  total = 0.0
  rows = zip(guess[0], truth[0], guess[1], truth[1], strict=True)
  for ours, theirs, norm, other in rows:
    dot = sum(
      min(x, theirs[g]) * theirs[g] for g, x in ours.items() if g in theirs
    )
    total += dot / (norm * other) if norm and other else dot
  gap = guess[2] - truth[2]
  return total / len(guess[0]) * math.exp(-(gap**2) / (2 * sigma**2))


def bleu(
  predictions: list[Tokens], references: list[list[Tokens]], *, orders: int = 4
) -> list[float]:
  """Corpus BLEU-1..`orders` (Papineni et al., 2002), closest reference length.

  Counts are clipped at the largest count in any one reference. Of two
  references equally near in length the shorter counts. The tiny constants
  keep an empty corpus at 0, as in the published scorer.
  """
  _same_length(predictions, references)
  right, tried = np.zeros(orders), np.zeros(orders)
  length = nearest = 0
  for prediction, video in zip(predictions, references, strict=True):
    length += len(prediction)
    nearest += min((abs(len(r) - len(prediction)), len(r)) for r in video)[1]
    for n in range(1, orders + 1):
      most = collections.Counter()
      for reference in video:
        most |= ngram_counts(reference, n)
      right[n - 1] += (ngram_counts(prediction, n) & most).total()
      tried[n - 1] += max(0, len(prediction) - n + 1)
  ratio = (length + 1e-15) / (nearest + 1e-9)
  brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
  precisions = np.cumprod((right + 1e-15) / (tried + 1e-9))
  return [float(p ** (1 / n) * brevity) for n, p in enumerate(precisions, 1)]


def rouge_l(
  predictions: list[Tokens],
  references: list[list[Tokens]],
  *,
  beta: float = 1.2,
) -> tuple[float, list[float]]:
  """ROUGE-L over the corpus and per video (Lin, 2004).

  Best precision and best recall over the references, joined with weight
  `beta` on recall. An empty text counts as one empty word, as in the
  published scorer.
  """
  _same_length(predictions, references)
  scores = []
  for prediction, video in zip(predictions, references, strict=True):
    ours = prediction or [""]
    shared = [_common(ours, r or [""]) for r in video]
    precision = max(shared) / len(ours)
    recall = max(s / len(r or [""]) for s, r in zip(shared, video, strict=True))
    bottom = recall + beta**2 * precision
    scores.append(
      (1 + beta**2) * precision * recall / bottom if bottom else 0.0
    )
  return float(np.mean(scores)), scores


def _common(a: Tokens, b: Tokens) -> int:
  """Length of the longest common subsequence."""
  row = [0] * (len(b) + 1)
  for x in a:
    diagonal = 0
    for j, y in enumerate(b, 1):
      above = row[j]
      row[j] = diagonal + 1 if x == y else max(above, row[j - 1])
      diagonal = above
  return row[-1]


def repetition(texts: list[Tokens], *, n: int = 4) -> float:
  """Share of n-grams that occurred before in the same text; 0 when none."""
  total = sum(max(0, len(t) - n + 1) for t in texts)
  fresh = sum(len(_grams(t, n)) for t in texts)
  return 1 - fresh / total if total else 0.0


def distinct(texts: list[Tokens], *, n: int) -> float:
  """Different n-grams per n-gram over all texts (Li et al., 1510.03055)."""
  total = sum(max(0, len(t) - n + 1) for t in texts)
  return len({g for t in texts for g in _grams(t, n)}) / total if total else 0.0


def variety(texts: list[Tokens]) -> dict[str, float]:
  """How repetitive the texts are, and how varied."""
  return {
    "repetition": repetition(texts),
    "distinct_1": distinct(texts, n=1),
    "distinct_2": distinct(texts, n=2),
  }


def _same_length(predictions, references):
  if not predictions or len(predictions) != len(references):
    raise ValueError(
      f"caption metrics need one prediction per video and at least one: got "
      f"{len(predictions)} predictions for {len(references)} videos"
    )
  for i, video in enumerate(references):
    if not video:
      raise ValueError(f"caption metrics: video number {i} has no reference")
