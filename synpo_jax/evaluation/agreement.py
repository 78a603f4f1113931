"""How far two judges agree on the same captions.

Judgements are matched item by item. Cohen's kappa is the agreement beyond what
chance gives two judges with these habits: of equal answers alone, or with
weights by how far apart two scores are (linear, quadratic). Rank correlations
(Spearman; Kendall's tau-b) ask whether both put the captions into one order.
Intervals are of a bootstrap over videos, as judgements of one video belong
together.
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from synpo_jax.runtime import buckets, journal

FILES = ("items.jsonl", "judgements.jsonl")  # of evaluate, of make_pairs
# What a row may hold: figures of its own, lists of a figure for each caption,
# and lists of objects that hold figures.
ALONE = ("score", "outcome", "precision", "recall", "f1", "accuracy")
LISTS = ("factuality", "fluency", "consistency")
OBJECTS = {"questions": ("correct", "score"), "keypoints": ("relation",)}
SURE = (2.5, 97.5)  # percentiles of an interval


class Matched(NamedTuple):
  """What two judges said under one name, item by item."""

  a: np.ndarray  # [N] numbers or texts
  b: np.ndarray  # [N]
  videos: np.ndarray  # [N] int: which video an item is of


def read_judgements(path: str | pathlib.Path) -> dict[str, dict]:
  """Rows by id of a results file, or of the workdir that holds one.

  Raises FileNotFoundError where there is none.
  """
  path = buckets.at(path)
  if path.is_dir():
    found = [path / name for name in FILES if (path / name).exists()]
    if not found:
      raise FileNotFoundError(f"{path}: holds neither {' nor '.join(FILES)}")
    path = found[0]
  if not path.exists():
    raise FileNotFoundError(f"{path} not found")
  rows = journal.read(path)
  if path.name == FILES[1]:  # what was judged lies beside it
    for id_, row in journal.read(path.with_name("candidates.jsonl")).items():
      if id_ in rows:
        rows[id_]["caption"] = row["captions"]
  return rows


def match(a: dict[str, dict], b: dict[str, dict]) -> dict[str, Matched]:
  """{figure: what both judges said of it}, of the items that both judged.

  Raises ValueError where an id has other captions in the two, or when nothing
  is judged by both.
  """
  both = [id_ for id_ in a if id_ in b]
  for id_ in both:
    if a[id_].get("caption") != b[id_].get("caption"):
      raise ValueError(
        f"{id_}: the two judged different captions of it; give two results "
        "of the same captions"
      )
  pairs = {}
  for video, id_ in enumerate(both):
    said, other = _figures(a[id_]), _figures(b[id_])
    for key in said:
      if key in other:
        pairs.setdefault(key[0], []).append((said[key], other[key], video))
  if not pairs:
    raise ValueError("the two have no judgement of the same item in common")
  return {name: _matched(rows) for name, rows in pairs.items()}


def _matched(rows) -> Matched:
  """Of columns; yes and no become 1 and 0."""
  columns = [np.array(column) for column in zip(*rows, strict=True)]
  return Matched(*(c.astype(int) if c.dtype == bool else c for c in columns))


def _figures(row) -> dict[tuple[str, int], Any]:
  """{(name, place): value} of all that a row says and a judge decided."""
  found = {}
  for name, inner in OBJECTS.items():
    for place, thing in enumerate(row.get(name) or ()):
      found |= {(key, place): thing[key] for key in inner if key in thing}
  if not found:  # else these are means of what was found
    found = {(name, 0): row[name] for name in ALONE if name in row}
  for name in LISTS:
    found |= {(name, i): value for i, value in enumerate(row.get(name) or ())}
  return {key: value for key, value in found.items() if _is_judged(value)}


def _is_judged(value) -> bool:
  return value is not None and value != "failed"


def measure(pair: Matched, *, resamples: int, seed: int) -> dict:
  """n, videos, the means, and each measure as {value, low, high}.

  A measure is None where it says nothing: kappas of scores that are no whole
  numbers, weights and ranks of words, and everything where nothing varies.
  """
  rng, found = np.random.default_rng(seed), {}
  groups = [np.flatnonzero(pair.videos == v) for v in np.unique(pair.videos)]
  picks = [
    np.concatenate(
      [groups[i] for i in rng.integers(len(groups), size=len(groups))]
    )
    for _ in range(resamples if len(groups) > 1 else 0)
  ]
  found |= {"n": len(pair.a), "videos": len(groups)}
  if _are_numbers(pair):
    found |= {"mean_a": float(pair.a.mean()), "mean_b": float(pair.b.mean())}
  found["equal"] = float(np.mean(pair.a == pair.b))
  for name, compute in _measures(pair).items():
    found[name] = _interval(compute, len(pair.a), picks)
  return found


def _are_numbers(pair) -> bool:
  return pair.a.dtype.kind in "if" and pair.b.dtype.kind in "if"


def _measures(pair) -> dict[str, Callable[[np.ndarray], float | None]]:
  """{name: function of the items to take} of all that can be said of a pair."""
  numbers = _are_numbers(pair)
  names = ("kappa", "kappa_linear", "kappa_quadratic", "spearman", "kendall")
  found = dict.fromkeys(names, lambda picked: None)
  kinds, codes = np.unique(
    np.concatenate([pair.a, pair.b]), return_inverse=True
  )
  a, b = np.split(codes, 2)
  if not numbers or np.array_equal(kinds, np.round(kinds.astype(float))):
    weights = {"kappa": 1.0 - np.eye(len(kinds))}
    if numbers:
      gaps = np.abs(np.subtract.outer(kinds, kinds).astype(float))
      weights |= {"kappa_linear": gaps, "kappa_quadratic": gaps**2}
    for name, w in weights.items():
      found[name] = lambda picked, w=w: kappa(a[picked], b[picked], w)
  if numbers:
    for name, test in (
      ("spearman", stats.spearmanr),
      ("kendall", stats.kendalltau),
    ):
      found[name] = lambda picked, test=test: _ranked(
        test, a[picked], b[picked]
      )
  return found


def kappa(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> float | None:
  """Cohen's kappa of codes [N] with weights [K, K] of disagreement.

  None where no disagreement can be expected.
  """
  seen_KK = np.zeros(weights.shape)
  np.add.at(seen_KK, (a, b), 1.0 / len(a))
  expected_KK = np.outer(seen_KK.sum(1), seen_KK.sum(0))
  chance = float((weights * expected_KK).sum())
  if chance == 0.0:
    return None
  return 1.0 - float((weights * seen_KK).sum()) / chance


def _ranked(test, a, b) -> float | None:
  """A rank correlation; None where one of the two says the same of all."""
  if np.ptp(a) == 0 or np.ptp(b) == 0:
    return None
  return float(test(a, b).statistic)


def _interval(compute, count, picks) -> dict | None:
  """The value of all items, and where SURE of the resampled ones lie."""
  value = compute(np.arange(count))
  if value is None:
    return None
  drawn = [d for d in map(compute, picks) if d is not None]
  low, high = np.percentile(drawn, SURE) if drawn else (np.nan, np.nan)
  bounds = (float(x) if np.isfinite(x) else None for x in (low, high))
  return dict(zip(("value", "low", "high"), (value, *bounds), strict=True))
