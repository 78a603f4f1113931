"""Rounds of preference training side by side: their scores, in words too."""

import json
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from rich.table import Table

from synpo_jax.evaluation import recipe
from synpo_jax.pairing import ledger
from synpo_jax.reporting import gain, result
from synpo_jax.runtime import journal, json_file
from synpo_jax.world import scores as marking

# In a round's folder: what it trains on, and the work of the commands.
DATA, PAIRS, TRAIN, EVALUATE = "data.jsonl", "pairs", "train", "evaluate"


class Round(NamedTuple):
  """What a round came to; round 0 is the captioner at the start.

  scores: held-out means and their errors (KEY_se) by name. items: scores by
  item, where they have errors. captions: by item. scenes: the file of the
  synthetic world's scenes, or "". pairs: counts of the round's pairs, and
  their mean words; {} for the start.
  """

  number: int
  scores: dict[str, float]
  items: dict[str, dict]
  captions: dict[str, str]
  scenes: str
  pairs: dict[str, float | None]


def folder(workdir: str | pathlib.Path, number: int) -> pathlib.Path:
  """The folder of a round: WORKDIR/rounds/0001."""
  return pathlib.Path(workdir) / "rounds" / f"{number:04}"


def read(place: str | pathlib.Path, number: int) -> Round:
  """A round whose scores are there; OSError or ValueError where they are not.

  place: its folder.
  """
  place = pathlib.Path(place)
  made = place / EVALUATE
  results = json_file.read(made / "results.json")
  known = journal.read(made / recipe.CAPTIONS)
  captions = {id_: row["caption"] for id_, row in known.items()}
  rows = _lines(made / "items.jsonl")
  marked = results["benchmark"] == "shapes"
  return Round(
    number,
    _scores(results["scores"], captions, marked),
    {row["id"]: row for row in rows} if marked else {},
    captions,
    results["recipe"]["data"]["scenes"] if marked else "",
    _pairs(place) if number else {},
  )


def _lines(path) -> list[dict]:
  return [json.loads(line) for line in path.read_bytes().splitlines()]


def _scores(found: Mapping, captions: Mapping, marked: bool) -> dict:
  """Numbers by name, those of a part as PART/NAME; words are there at least.

  marked: by the synthetic world, whose parts are left out.
  """
  flat = {k: float(v) for k, v in found.items() if _is_number(v)}
  for part, values in found.items():
    if isinstance(values, dict) and not marked:
      numbers = {k: v for k, v in values.items() if _is_number(v)}
      flat |= {f"{part}/{k}": float(v) for k, v in numbers.items()}
  if "words" not in flat and captions:
    counts = [len(text.split()) for text in captions.values()]
    flat["words"], error = marking.mean_and_error(counts)
    flat |= {} if error is None else {"words_se": error}
  return flat


def _is_number(value) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _pairs(place) -> dict:
  """Counts of a round's pairs, and mean words of their captions."""
  summary = json_file.read(place / PAIRS / "summary.json")
  rows = _lines(place / DATA)
  words = {
    f"{which}_words": sum(len(row[which].split()) for row in rows) / len(rows)
    for which in ("chosen", "rejected")
  }
  own = len(journal.read(ledger.path(place / PAIRS, "pairs")))
  counts = {"judged": summary["judged"], "pairs": own}
  return (
    counts
    | {"older_pairs": len(rows) - own, "median_gap": summary["median_gap"]}
    | words
  )


def name(one: Round) -> str:
  """A round as columns are headed."""
  return f"round {one.number}" if one.number else "start"


def titles(rounds: list[Round]) -> dict[str, str]:
  """Score -> its title, for the scores of these rounds."""
  found = [key for key in rounds[0].scores if not key.endswith("_se")]
  marked = bool(rounds[0].scenes)
  known = {key: text for key, text in result.SHOWN.items() if key in found}
  rest = {key: key.replace("_", " ") for key in found if key not in known}
  return known if marked else rest | known


def table(rounds: list[Round]) -> Table:
  """A row per score, a column per round."""
  columns = {name(one): one.scores for one in rounds}
  return result.compared("held out", columns, titles(rounds))


def sentence(rounds: list[Round]) -> str:
  """What the rounds brought, whichever way it came out.

  A difference is one when it is beyond two of its standard errors, of scores
  of the same clips.
  """
  count = "1 round" if len(rounds) == 2 else f"{len(rounds) - 1} rounds"
  if len(rounds) == 1:
    return "No round is done yet."
  first, last = rounds[0], rounds[-1]
  if not first.items:
    key = next(iter(titles(rounds)))
    values = f"{first.scores[key]:.3f} -> {last.scores[key]:.3f}"
    return f"After {count}: {titles(rounds)[key]} {values} (no error known)."
  change = marking.differences(first.items, last.items)
  words = [f"After {count}: {_change(first, last, change, 'f1')}"]
  words += [
    _change(first, last, change, key) for key in ("hallucination", "words")
  ]
  if len(rounds) > 2:
    words.append(_last(rounds[-2], last))
  return f"{'; '.join(words)}."


def _change(first, last, change, key) -> str:
  """A score's change between two rounds, and whether it is one."""
  told = (
    f"{result.SHOWN[key]} {first.scores[key]:.2f} -> {last.scores[key]:.2f}"
  )
  error = change[f"{key}_se"]
  room = "one clip alone" if error is None else f"± {error:.2f}"
  noise = "" if gain.sign(change, key) else ", within noise"
  return f"{told} ({change[key]:+.2f} {room}{noise})"


def _last(before: Round, last: Round) -> str:
  """What the last round alone added."""
  change = marking.differences(before.items, last.items)
  way = {
    1: "still gained",
    -1: "lost some of it again",
    0: "changed F1 by no more than noise",
  }[gain.sign(change, "f1")]
  error = change["f1_se"]
  room = "" if error is None else f" ± {error:.2f}"
  return f"round {last.number} alone {way} ({change['f1']:+.2f}{room})"
