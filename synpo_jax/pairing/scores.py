"""Stage 4: a row of scores per video, from a language model or the truth."""

import collections
import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from synpo_jax.endpoints import paid
from synpo_jax.judging import judge
from synpo_jax.pairing import corrupting, criteria, ledger
from synpo_jax.pairing.stages import stage
from synpo_jax.runtime import buckets, digests, journal
from synpo_jax.world import scene, truth

LATER = "unavailable"  # begins reasons that may be gone when asked again
TRUTH_VERSION = "truth-2026-11-a"
NO_NOTES = "no clip captions to compare with"


def by_model(
  workdir: Path,
  origin: dict,
  prices: dict[str, float],
  arriving: Iterable[dict | None] = (),
  *,
  repeats: int,
  **settings,
) -> judge.Usage:
  """Appends the scores of each new video, in the order of the candidates.

  A criterion that could not be judged is None in the row and stands in its
  "missing" with the reason. Rows that lack one because the server was not
  available are made anew. Of several repeats a row holds the means, and in its
  "spread" their standard deviations.

  Args:
    origin: kept in every row: the judge and the hash of its settings.
    prices: of a million prompt and completion tokens, for the running cost.
    arriving: further rows of candidates as they are written, None while there
      is none; then the progress of judging is told in lines.
    repeats: how often each question is asked.
    settings: of judge.ask.
  """
  _forget_unavailable(workdir)
  ready = _ready(workdir, some=not arriving)
  total = len(ledger.written(workdir, "segments")) if arriving else None
  with stage(workdir, "judge", ready, total=total) as (new, append):
    order, rows, left = collections.deque(), {}, {}

    def requests():
      for item in itertools.chain(new, _arriving(workdir, arriving)):
        if item is None:
          yield None
          continue
        if item["id"] in left:  # it was there before it was told
          continue
        asked = criteria.requests(**item)
        order.append(item["id"])
        rows[item["id"]] = _blank(item) | origin
        left[item["id"]] = len(asked) * repeats
        yield from _repeated(asked, repeats)

    def flush(usage):
      while order and left.get(order[0]) == 0:
        row = _averaged(rows.pop(order.popleft()), repeats)
        append(row, paid.cost(usage, prices))

    def take(answer, usage):
      _fill(rows[answer.id[0]], answer)
      left[answer.id[0]] -= 1
      flush(usage)

    usage = judge.ask(requests(), take, **settings)
    flush(usage)
  return usage


def by_truth(workdir: Path, origin: dict, *, scenes: str) -> None:
  """Appends the exact scores of each new video of the synthetic world.

  scenes: scenes.jsonl; a scene belongs to the video file of its name. Raises
  ValueError where the rows so far were judged by others.
  """
  known = scene.read_scenes(scenes)
  judge = origin["judge"] | {"scenes": digests.of(buckets.at(scenes)).hex()}
  _check_scenes(workdir, scenes, judge["scenes"])
  with stage(workdir, "judge", _ready(workdir)) as (new, append):
    for item in new:
      name = PurePosixPath(item["id"]).stem
      if name not in known:
        raise ValueError(f"{scenes}: there is no scene {name!r}")
      append(_true_scores(item, known[name]) | {"judge": judge})


def _check_scenes(workdir, scenes, now):
  for id_, row in ledger.written(workdir, "judge").items():
    if row["judge"].get("scenes", now) != now:
      raise ValueError(
        f"{scenes}: these are not the scenes that {id_} in "
        f"{ledger.path(workdir, 'judge')} was judged by (other content); put "
        "those back, or move that file away and judge again"
      )


def _true_scores(item, true) -> dict:
  row = _blank(item) | {"missing": []}
  asked = [i for i, text in enumerate(item["captions"]) if text.strip()]
  agreed = truth.consistency([item["captions"][i] for i in asked])
  for i, consistency in zip(asked, agreed, strict=True):
    verdict = truth.judge(item["captions"][i], true)
    row["factuality"][i] = verdict.factuality
    row["fluency"][i] = verdict.fluency
    row["consistency"][i] = consistency
  return row


def _ready(workdir, *, some: bool = True) -> list[dict]:
  """What is asked about videos that have all captions, in order of candidates.

  some: whether it is an error that there are no candidates at all.
  """
  item = _items(workdir)
  read = ledger.rows if some else ledger.written
  return [x for row in read(workdir, "candidates").values() if (x := item(row))]


def _items(workdir) -> Callable[[dict], dict | None]:
  """Returns a row of candidates -> what is asked about them.

  None where the video lacks clip captions, or those of its corrupted frames in
  a run that has such.
  """
  clips = ledger.rows(workdir, "clips")
  spoilt = None
  if corrupting.STAGE in ledger.made_with(workdir):
    spoilt = ledger.rows(workdir, corrupting.STAGE)

  def item(row):
    if row["id"] not in clips or not (spoilt is None or row["id"] in spoilt):
      return None
    return _item(corrupting.joined(row, spoilt or {}), clips)

  return item


def _item(row: dict, clips: dict[str, dict]) -> dict:
  """What is asked about a video's candidates."""
  notes = clips[row["id"]]["captions"]
  return {
    "id": row["id"],
    "question": row["question"],
    "captions": row["captions"],
    "notes": [text for text in notes if text.strip()],
  }


def _arriving(workdir, rows) -> Iterator[dict | None]:
  """Items of rows as they come, of videos that have clip captions."""
  item = _items(workdir) if rows else None
  for row in rows:
    if row is None:
      yield None
    elif (found := item(row)) is not None:
      yield found


def _blank(item) -> dict:
  """A row in which nothing is judged yet."""
  nothing = {name: [None] * len(item["captions"]) for name in criteria.RANGES}
  row = {"id": item["id"], **nothing, "missing": []}
  if not item["notes"]:
    row["missing"].append({"criterion": "factuality", "reason": NO_NOTES})
  return row


def _repeated(asked, repeats) -> Iterator[judge.Request]:
  """Every question with each of its repeats, which its id ends with."""
  for request in asked:
    for repeat in range(repeats):
      yield request._replace(id=(*request.id, repeat), repeat=repeat)


def _fill(row, answer):
  """Puts an answer into its row: a list of scores in each candidate's place."""
  _, criterion, index, repeat = answer.id
  if answer.missing:
    lost = {"criterion": criterion, "reason": answer.missing}
    lost |= {} if index is None else {"candidate": index}
    row["missing"].append(lost | ({"repeat": repeat} if repeat else {}))
    return
  scores = answer.value if index is None else {index: answer.value}
  for candidate, score in scores.items():
    said = row[criterion][candidate] or []
    row[criterion][candidate] = [*said, score]


def _averaged(row, repeats) -> dict:
  """The row with means in place of lists, and their spread where it has one."""
  spread = {}
  for name in criteria.RANGES:
    said = [scores or [] for scores in row[name]]
    row[name] = [_mean(scores) for scores in said]
    spread[name] = [
      statistics.stdev(scores) if len(scores) > 1 else None for scores in said
    ]
  row["missing"].sort(key=_place)
  return row | ({"repeats": repeats, "spread": spread} if repeats > 1 else {})


def spread(workdir: Path) -> dict[str, float | int | None] | None:
  """Repeats, and the mean standard deviation over them of each criterion.

  None where the judge was asked once.
  """
  rows = [r for r in ledger.written(workdir, "judge").values() if "spread" in r]
  if not rows:
    return None
  found = {"repeats": rows[0]["repeats"]}
  for name in criteria.RANGES:
    told = [sd for row in rows for sd in row["spread"][name] if sd is not None]
    found[name] = statistics.fmean(told) if told else None
  return found


def _mean(scores):
  """One score as it was given, of several the mean; None of none."""
  if len(scores) < 2:
    return scores[0] if scores else None
  return statistics.fmean(scores)


def _place(lost):
  return lost["criterion"], lost.get("candidate", -1), lost.get("repeat", 0)


def _forget_unavailable(workdir):
  """Drops the rows that asking again may complete."""
  file = ledger.path(workdir, "judge")
  rows = journal.read(file)
  kept = [
    row
    for row in rows.values()
    if not any(lost["reason"].startswith(LATER) for lost in row["missing"])
  ]
  if len(kept) < len(rows):
    journal.renew(file, kept)
