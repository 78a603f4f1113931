"""The last stage: pairs.jsonl as training takes it, and a count of the rest.

Everything follows from the rows of the stages before, so the file is made
anew each time, in one step; with more judged videos it grows at its end, where
all gaps are kept.
"""

import collections
import statistics
from pathlib import Path

import numpy as np

from synpo_jax.endpoints import paid
from synpo_jax.judging import trial
from synpo_jax.pairing import choose, corrupting, criteria, ledger, listing
from synpo_jax.pairing.scores import spread
from synpo_jax.runtime import journal


def write(
  workdir: Path,
  origin: dict,
  *,
  keep_gaps: tuple[float, float],
  **rule,
) -> dict:
  """Writes a pair per judged video that has one, and its list (listing.py).

  Args:
    origin: provenance that all rows share: models, hashes, seeds, versions.
    keep_gaps: two quantiles of the gaps of all pairs; those whose gap is not
      between them are dropped.
    rule: the fields of a choose.Rule.

  Returns:
    Counts: videos judged, pairs, "dropped" videos and "excluded" candidates
    by reason, how many pairs reach the official gap of 4, the median gap; and
    those of listing.write.
  """
  rule = choose.Rule(**rule)
  choose.check(rule)
  choose.check_quantiles("keep_gaps", keep_gaps)
  dropped, excluded, rows = collections.Counter(), collections.Counter(), []
  judged = _judged(workdir)
  listed = listing.write(workdir, origin, judged)
  origin = origin | rule._asdict() | {"keep_gaps": list(keep_gaps)}
  for row, spoilt, judgement in judged:
    scores = choose.totals(judgement, row["captions"])
    excluded.update(_excluded(judgement, row["captions"], scores))
    own = len(row["captions"]) - len(spoilt.get("captions", ()))
    choice = choose.choose(row["captions"], scores, rule, own)
    if isinstance(choice, str):
      dropped[choice] += 1
      continue
    made = _pair(row, judgement, scores, choice, origin)
    if choice.rejected >= own:
      made["provenance"]["corruption"] = spoilt["corruption"]
    rows.append(made)
  rows = _between(rows, keep_gaps, dropped)
  journal.rewrite(ledger.path(workdir, "pairs"), rows)
  gaps = _gaps(rows)
  return {
    "judged": len(judged),
    "pairs": len(rows),
    "pairs_with_gap_4": sum(gap >= 4 for gap in gaps),
    "median_gap": round(statistics.median(gaps), 3) if gaps else None,
    "dropped": dict(dropped),
    "excluded": dict(excluded),
  } | listed


def _gaps(rows) -> list[float]:
  return [row["chosen_score"] - row["rejected_score"] for row in rows]


def _between(rows: list[dict], ends, dropped: collections.Counter):
  """The rows whose gap lies between two quantiles of all; others counted."""
  if not rows:
    return rows
  low, high = np.quantile(_gaps(rows), ends).tolist()
  kept = []
  for row, gap in zip(rows, _gaps(rows), strict=True):
    if low <= gap <= high:
      kept.append(row)
    else:
      side, end = ("below", ends[0]) if gap < low else ("above", ends[1])
      dropped[f"gap {side} the {end:g} quantile"] += 1
  return kept


def counts(workdir: Path, faults: dict[str, str]) -> dict:
  """Rows of each stage, what was unreadable, and what was paid for.

  faults: video id -> why it was left out.
  """
  rows = {name: len(ledger.written(workdir, name)) for name in ledger.FILES}
  more = {name: len(ledger.written(workdir, name)) for name in ledger.MORE}
  rows |= {name: count for name, count in more.items() if count}
  found = {"rows": rows, "unreadable": faults}
  found["judge"] = paid.total(workdir / ledger.CACHE, workdir / trial.CACHE)
  if tried := trial.result(workdir):
    found["judge_trial"] = tried
  if repeated := spread(workdir):
    found["judge_spread"] = repeated
  if answers := ledger.all_answers(workdir):
    found["captioner"] = paid.total(*answers)
  return found


def _judged(workdir) -> list[tuple[dict, dict, dict]]:
  """(captions, row of the corrupted video or {}, judgement), as judged.

  The captions are the candidates, and those of the corrupted video behind.
  """
  candidates = ledger.rows(workdir, "candidates")
  spoilt = ledger.written(workdir, corrupting.STAGE)
  judged = []
  for id_, judgement in ledger.written(workdir, "judge").items():
    row = candidates.get(id_)
    row = row and corrupting.joined(row, spoilt)
    if row is None or len(row["captions"]) != len(judgement["factuality"]):
      raise ValueError(
        f"{ledger.path(workdir, 'judge')}: {id_} was judged on other "
        "candidates; move that file away and judge again"
      )
    judged.append((row, spoilt.get(id_, {}), judgement))
  return judged


def _pair(row, judgement, scores, choice, origin) -> dict:
  chosen, rejected = choice
  return {
    "id": row["id"],
    "video": row["video"],
    "question": row["question"],
    "chosen": row["captions"][chosen],
    "rejected": row["captions"][rejected],
    "chosen_score": scores[chosen],
    "rejected_score": scores[rejected],
    "provenance": {
      **origin,
      **({"served": row["served"]} if "served" in row else {}),
      "judge": judgement["judge"],
      "candidates": {"chosen": chosen, "rejected": rejected},
      "seed": row["seed"],
      "scores": {
        **{name: judgement[name] for name in criteria.WEIGHTS},
        "total": scores,
      },
    },
  }


def _excluded(judgement, captions, scores) -> list[str]:
  """One reason for each candidate that does not count."""
  missing = collections.defaultdict(list)
  for lost in judgement["missing"]:
    everyone = range(len(captions))
    for index in [lost["candidate"]] if "candidate" in lost else everyone:
      missing[index].append(f"{lost['criterion']} {_kind(lost['reason'])}")
  return [
    "empty caption" if not captions[index].strip() else missing[index][0]
    for index, score in enumerate(scores)
    if score is None
  ]


def _kind(reason: str) -> str:
  """The kind of a reason: what stands before its colon."""
  return reason.partition(":")[0]
