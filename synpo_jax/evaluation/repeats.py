"""Several judgements of the same captions as one: means, and their spread."""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple


class Scored(NamedTuple):
  """What a benchmark makes of its captions, once."""

  rows: list[dict]
  summary: dict


def combine(rounds: list[Scored]) -> Scored:
  """One result of several rounds, of the same items in the same order.

  Scores, which are floats, become means of those that came. A row keeps in
  "repeats" the values of every round where these differ, and in "spread" the
  standard deviation of each score; the summary's "spread" has those of its own
  scores, by dotted name. Counts of the summary that differ become means, too.
  One round is left as it is.
  """
  if len(rounds) == 1:
    return rounds[0]
  rows = [_row(same) for same in zip(*(r.rows for r in rounds), strict=True)]
  summaries = [r.summary for r in rounds]
  spread = {"repeats": len(rounds)}
  _walk(summaries, lambda name, values: _note(spread, name, values))
  merged = _walk(summaries, lambda _, values: _mean(values))
  return Scored(rows, merged | {"spread": spread})


def _row(same: tuple[dict, ...]) -> dict:
  row, spread, values = dict(same[0]), {}, {}
  for name in row:
    told = [one[name] for one in same]
    if any(value != told[0] for value in told):
      values[name] = told
    if _are_scores(told):
      row[name] = _mean(told)
      _note(spread, name, told)
  return row | {"repeats": values, "spread": spread}


def _walk(dicts, what: Callable[[str, list], Any], within="") -> dict:
  """{name: what(dotted name, values)} of dicts of the same form."""
  found = {}
  for name, value in dicts[0].items():
    values = [one[name] for one in dicts]
    if isinstance(value, dict):
      found[name] = _walk(values, what, f"{within}{name}.")
    else:
      found[name] = what(f"{within}{name}", values)
  return found


def _note(spread, name, values):
  """Keeps the standard deviation of scores; None where only one came."""
  if _are_scores(values):
    came = [value for value in values if value is not None]
    spread[name] = statistics.stdev(came) if len(came) > 1 else None


def _are_scores(values) -> bool:
  return any(isinstance(value, float) for value in values)


def _mean(values):
  """Of numbers that came; what is the same in all rounds stays as it is."""
  came = [v for v in values if isinstance(v, int | float)]
  if all(value == values[0] for value in values) or not came:
    return values[0]
  return statistics.fmean(came)
