"""What pairs are worth, before anything is trained on them.

A loss learns whatever tells chosen from rejected. Where that is length, a first
sentence, or a copy of another row, it learns that; where the model ranks a pair
right already, nothing. Nothing here needs a model but `rank`'s numbers.
"""

import html
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from synpo_jax.data.rows import Pair
from synpo_jax.pairing import copies, separable, words
from synpo_jax.runtime import journal

FILE, PAGE = "pairs_report.json", "pairs_report.html"
STYLE = "body{font:15px/1.5 system-ui;max-width:60rem;margin:2rem auto}"
QUANTILES = (0.1, 0.5, 0.9)
FAR = 0.65  # of pairs told apart, from which that is what a loss learns
WON, ALPHA = 0.9, 30.0  # SynPO's s(alpha (S_w - S_l)) of a pair that is won
MANY = 0.05  # of rows that are copies
MOST_IDS = 100  # named of each kind of copy


def look(
  pairs: list[Pair],
  count: Callable[[str], int] = words.count,
  unit: str = "words and marks",
  ranking: dict | None = None,
) -> dict:
  """All that is known of some pairs, as the JSON that is written down.

  count: tokens of a text; unit: what these are. ranking: of `rank`.
  """
  lengths = np.array(
    [[count(pair.chosen), count(pair.rejected)] for pair in pairs]
  )
  fold = separable.folds(pairs)
  copied = copies.find(pairs)
  report = {
    "pairs": len(pairs),
    "length": _lengths(lengths) | {"unit": unit},
    "chance": 0.5,
    "standard_error": round(0.5 / len(pairs) ** 0.5, 4),
    "by_length": separable.by_length(lengths, fold),
    "by_first_sentence": separable.by_first_sentence(pairs, fold),
    "copies": {kind: len(ids) for kind, ids in copied.items()},
    "copied": {kind: ids[:MOST_IDS] for kind, ids in copied.items()},
    "ranking": ranking,
  }
  return report | {"next": advice(report)}


def _lengths(lengths_N2) -> dict:
  told = {}
  for side, name in enumerate(("chosen", "rejected")):
    own = lengths_N2[:, side]
    ends = np.quantile(own, QUANTILES).round(1).tolist()
    told[name] = {"mean": round(float(own.mean()), 1), "quantiles": ends}
  longer = lengths_N2[:, 0] > lengths_N2[:, 1]
  shorter = lengths_N2[:, 0] < lengths_N2[:, 1]
  return told | {
    "chosen_longer": round(float(longer.mean()), 4),
    "chosen_shorter": round(float(shorter.mean()), 4),
  }


def rank(
  sums: Float[np.ndarray, "N 2"], lengths: Float[np.ndarray, "N 2"]
) -> dict:
  """How a model ranks pairs, from log-probs of chosen and rejected, in nats.

  sums: of whole captions; lengths: their tokens. "accuracy": the share whose
  chosen caption has the higher geometric-mean token probability S, "summed":
  the higher log-prob. "margins": quantiles of S_w - S_l. "won", "lost": shares
  with s(30 (S_w - S_l)), SynPO's ranking term, of at least 0.9, at most 0.1.
  """
  S_N2 = np.exp(np.float64(sums) / lengths)
  margin = S_N2[:, 0] - S_N2[:, 1]
  right = 1 / (1 + np.exp(-ALPHA * margin))
  share = lambda hits: round(float(np.mean(hits)), 4)  # noqa: E731
  return {
    "pairs": len(sums),
    "accuracy": share(margin > 0),
    "summed": share(sums[:, 0] > sums[:, 1]),
    "margins": np.quantile(margin, QUANTILES).round(4).tolist(),
    "won": share(right >= WON),
    "lost": share(right <= 1 - WON),
  }


def advice(report: dict) -> str:
  """The one thing to do next, in a line."""
  beyond = max(FAR, 0.5 + 3 * report["standard_error"])
  copied = report["copies"]["exact"] + report["copies"]["near"]
  length, first = report["by_length"], report["by_first_sentence"]
  ranking = report["ranking"]
  if length is None:
    return "All pairs are of one video: make pairs of more of them."
  if copied > MANY * report["pairs"]:
    return (
      f"{copied} of {report['pairs']} rows copy others: take them out first "
      f"({FILE} names them)."
    )
  if length["pairs"] >= beyond:
    return (
      f"The {length['chosen_is']} caption is the chosen one in "
      f"{length['pairs']:.0%}: make them with pairs.negative=length, or train "
      "with a loss per token (simpo, sigmoid_norm)."
    )
  if first["pairs"] >= beyond:
    return (
      f"First sentences alone tell {first['pairs']:.0%} of the pairs apart "
      f"(by {', '.join(first['rejected_words'][:3]) or 'what they lack'}): ask "
      "all candidates the same question and let the same model write them."
    )
  if ranking and ranking["won"] >= 0.5:
    return (
      f"The model has won {ranking['won']:.0%} already: sample captions anew "
      "from it, or drop wide gaps with pairs.keep_gaps."
    )
  return "Train: neither length nor a first sentence tells these pairs apart."


def sentences(report: dict) -> list[str]:
  """The report in a few lines, the last of which says what to do."""
  length, ranking = report["length"], report["ranking"]
  medians = [length[x]["quantiles"][1] for x in ("chosen", "rejected")]
  told = [
    f"Length: half the chosen captions are above {medians[0]:g} "
    f"{length['unit']}, half the rejected above {medians[1]:g}; the chosen one "
    f"is longer in {length['chosen_longer']:.0%}, shorter in "
    f"{length['chosen_shorter']:.0%}."
  ]
  if report["by_length"]:
    told.append(_told_apart(report))
  copied = report["copies"]
  told.append(
    f"Copies: {copied['exact']} rows of earlier ones, {copied['near']} nearly; "
    f"{copied['alike']} pairs of two captions that are nearly the same."
  )
  if ranking:
    low, middle, high = ranking["margins"]
    told.append(
      f"The model ranks {ranking['accuracy']:.0%} of {ranking['pairs']} right "
      f"by S ({ranking['summed']:.0%} by log-prob), margins {low:g}, "
      f"{middle:g}, {high:g} at quantiles 0.1, 0.5, 0.9; {ranking['won']:.0%} "
      f"are won by 0.9 already, {ranking['lost']:.0%} lost by it."
    )
  return [*told, f"Next: {report['next']}"]


def _told_apart(report) -> str:
  length, first = report["by_length"], report["by_first_sentence"]
  return (
    f"Told apart on videos left out (chance 0.5, standard error "
    f"{report['standard_error']:.2g}): {length['pairs']:.0%} by which is "
    f"{length['chosen_is']}, {length['captions']:.0%} of single captions by "
    f"the best length, {first['pairs']:.0%} by the words of first sentences."
  )


def section(report: dict) -> str:
  """The report as a part of an HTML page."""
  *told, last = map(html.escape, sentences(report))
  lines = "".join(f"<p>{line}</p>" for line in told)
  return (
    f'<section class="sheet" id="worth"><h2>Before training</h2>{lines}'
    f"<p><b>{last}</b></p></section>"
  )


def write(folder: Path, report: dict) -> None:
  """Writes the report as JSON."""
  text = json.dumps(report, indent=2, ensure_ascii=False)
  journal.replace(folder / FILE, f"{text}\n".encode())


def write_page(path: Path, report: dict) -> None:
  """Writes the report as a page of its own."""
  page = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>Preference pairs"
    f"</title><style>{STYLE}</style><h1>{report['pairs']} preference pairs</h1>"
    f"{section(report)}</html>\n"
  )
  journal.replace(path, page.encode("utf-8", "replace"))
