"""lists.jsonl: all of a video's judged candidates, for losses that read lists.

Made anew with pairs.jsonl from the same rows, whatever rule chooses the pair:
captions of corrupted clips are no part of it.
"""

from pathlib import Path

from synpo_jax.data import lists
from synpo_jax.pairing import choose, criteria
from synpo_jax.runtime import buckets, journal

FILE = "lists.jsonl"


def write(workdir: Path, origin: dict, judged: list[tuple]) -> dict[str, int]:
  """Writes a row per video with two different scores or more.

  origin, judged: as assembly.write has them. Returns counts: rows, captions
  in them, and captions beyond lists.MOST, of which the first stay.
  """
  rows, beyond = [], 0
  for row, spoilt, judgement in judged:
    own = len(row["captions"]) - len(spoilt.get("captions", ()))
    scores = choose.totals(judgement, row["captions"])[:own]
    found = choose.distinct(row["captions"][:own], scores)
    beyond += max(0, len(found) - lists.MOST)
    places = [place for _, place in found[: lists.MOST]]
    if len({scores[place] for place in places}) > 1:
      rows.append(_row(row, judgement, scores, places, origin))
  journal.rewrite(buckets.at(workdir) / FILE, rows)
  return {
    "lists": len(rows),
    "captions_in_lists": sum(len(row["captions"]) for row in rows),
    "captions_beyond_lists": beyond,
  }


def _row(row, judgement, scores, places, origin) -> dict:
  return {
    "id": row["id"],
    "video": row["video"],
    "question": row["question"],
    "captions": [row["captions"][place] for place in places],
    "scores": [scores[place] for place in places],
    "provenance": {
      **origin,
      **({"served": row["served"]} if "served" in row else {}),
      "judge": judgement["judge"],
      "candidates": places,
      "seed": row["seed"],
      "scores": {name: judgement[name] for name in criteria.WEIGHTS},
    },
  }
