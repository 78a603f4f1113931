"""Which of two answers is better: a judge asked twice, in both orders.

An answer wins when the judge prefers it in both orders. A judge that prefers
the same place in both orders has shown a habit, not a preference: that is a
tie, and is counted apart, as are the pairs of which a judgement failed.
"""

import json
import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from synpo_jax.data import text
from synpo_jax.evaluation import judge_prompts, text_model, verdicts
from synpo_jax.evaluation.items import Benchmark, Item, limited, refuse_missing
from synpo_jax.generation.sampling import Sampling
from synpo_jax.judging import judge
from synpo_jax.runtime import buckets, journal, progress

# What an outcome counts for.
POINTS = {"win": 1.0, "loss": 0.0, "tie": 0.5, "position": 0.5, "failed": None}


class Duel(NamedTuple):
  """Two answers to one request; `ours` is the one whose wins are counted."""

  id: str
  question: str
  ours: str
  theirs: str


def read_outputs(path: str | pathlib.Path) -> dict[str, str]:
  """{instruction: output} of an AlpacaEval outputs file (a JSON list)."""
  path = buckets.at(path)
  try:
    rows = json.loads(path.read_text(encoding="utf-8"))
  except ValueError as error:
    raise ValueError(f"{path}: not JSON ({error})") from None
  if not isinstance(rows, list) or not rows:
    raise ValueError(f"{path}: not a list of instruction and output")
  outputs = {}
  for number, row in enumerate(rows, 1):
    for name in ("instruction", "output"):
      if not isinstance(row, dict) or not isinstance(row.get(name), str):
        raise ValueError(f"{path} row {number}: no text in {name!r}")
    if row["instruction"] in outputs:
      raise ValueError(f"{path} row {number}: its instruction is there twice")
    outputs[row["instruction"]] = row["output"]
  return outputs


def read_predictions(
  path: str | pathlib.Path, items: list[Item], *, only_predicted: bool
) -> dict[str, dict]:
  """{item id: {"prompt", "caption"}} of another model's outputs file.

  Raises ValueError, unless `only_predicted`, for instructions without output.
  """
  outputs = read_outputs(path)
  rows = {
    item.id: {"prompt": item.id, "caption": outputs[item.id]}
    for item in items
    if item.id in outputs
  }
  refuse_missing(path, items, rows, only_predicted=only_predicted)
  return rows


def write_outputs(
  path: str | pathlib.Path, rows: list[dict], *, generator: str
) -> None:
  """Writes rows {instruction, output, dataset} as AlpacaEval reads them."""
  full = [
    {
      "dataset": row["dataset"],
      "instruction": row["instruction"],
      "output": row["output"],
      "generator": generator,
    }
    for row in rows
  ]
  text = json.dumps(full, ensure_ascii=False, indent=1)
  pathlib.Path(path).write_text(text + "\n", encoding="utf-8")


def answer(
  items: list[Item],
  path: pathlib.Path,
  open_model: Callable[[], text_model.TextModel],
  *,
  template: str,
  max_new_tokens: int,
  sampling: Sampling,
  seed: int,
  origin: dict,
) -> dict[str, dict]:
  """{item id: {"prompt", "caption"}}: a text model's own answers.

  path: JSONL that grows batch by batch; what it holds is kept. open_model is
  called only when something is left to do. template: a key of
  data.text.TEMPLATES. origin: what every new row says of how it was made.
  """
  with journal.extend(path) as (rows, append):
    new = [item for item in items if item.id not in rows]
    if new:
      lm = open_model()
      prompts = {
        item.id: text.prompt_ids(lm.tokenizer, template, item.id, blocks=[])
        for item in new
      }
      made = text_model.generate(
        lm,
        prompts,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        seed=seed,
      )
      done = len(items) - len(new)
      with progress.bar("answers", len(items), done=done) as advance:
        for batch in made:
          for name, words in batch.items():
            row = {"id": name, "prompt": name, "caption": words.strip()}
            append(row | origin)
          advance(len(batch))
    return {item.id: rows[item.id] for item in items}


def duels(ours: dict[str, str], theirs: dict[str, str]) -> list[Duel]:
  """Pairs of outputs by instruction. Raises ValueError where they differ."""
  if set(ours) != set(theirs):
    lonely = sorted(set(ours) ^ set(theirs))[0]
    raise ValueError(
      f"the two output files answer different instructions, as {lonely!r}"
    )
  return [
    Duel(str(index), question, ours[question], theirs[question])
    for index, question in enumerate(ours)
  ]


def judge_duels(
  pairs: list[Duel],
  prompts: judge_prompts.Prompts,
  ask: Callable[..., judge.Usage],
  *,
  max_tokens: int,
) -> tuple[list[dict], judge.Usage]:
  """One row per duel: what the judge said in both orders, and the outcome."""
  requests = _requests(pairs, prompts, max_tokens)
  answers, usage = judge.collect(ask, requests)
  rows = []
  for duel in pairs:
    first, second = answers[f"{duel.id}/ours"], answers[f"{duel.id}/theirs"]
    rows.append(
      {
        **duel._asdict(),
        "better_with_ours_first": first.value,
        "better_with_theirs_first": second.value,
        "failure": first.missing or second.missing,
        "outcome": outcome(first.value, second.value),
        "points": POINTS[outcome(first.value, second.value)],
      }
    )
  return rows, usage


def _requests(pairs, prompts, max_tokens):
  for duel in pairs:
    orders = {"ours": (duel.ours, duel.theirs)}
    orders["theirs"] = (duel.theirs, duel.ours)
    for name, answers in orders.items():
      asked = f"{duel.id}/{name}", duel.question, *answers
      yield request(*asked, prompts, max_tokens)


def request(
  key: str,
  question: str,
  first: str,
  second: str,
  prompts: judge_prompts.Prompts,
  max_tokens: int,
) -> judge.Request:
  """Which of two answers is better, in this order."""
  fields = dict(question=question, first=first, second=second)
  messages = judge_prompts.fill(prompts, "prefer", **fields)
  read = verdicts.better, verdicts.BETTER_SCHEMA
  version = f"preference {prompts.version}"
  return judge.Request(key, messages, *read, max_tokens, version)


def outcome(ours_first: int | None, theirs_first: int | None) -> str:
  """win, loss, tie, position (a habit, counts as a tie) or failed.

  The arguments are the place the judge preferred in each order: 1, 2, or 0
  for equally good. A preference in one order and "equal" in the other is a
  tie.
  """
  if ours_first is None or theirs_first is None:
    return "failed"
  votes = (ours_first, theirs_first)
  if votes == (1, 2):
    return "win"
  if votes == (2, 1):
    return "loss"
  return "position" if votes in ((1, 1), (2, 2)) else "tie"


def summarise(rows: list[dict]) -> dict:
  """Win rate with ties as halves, its standard error, and all the counts."""
  names = ("win", "loss", "tie", "position", "failed")
  counts = {n: sum(row["outcome"] == n for row in rows) for n in names}
  values = [row["points"] for row in rows if row["points"] is not None]
  n = len(values)
  rate = sum(values) / n if n else None
  error = None
  if n > 1:
    variance = sum((v - rate) ** 2 for v in values) / (n - 1)
    error = math.sqrt(variance / n)
  return {"win_rate": rate, "standard_error": error, "judged": n, **counts}


def list_items(c, prompts) -> list[Item]:
  """The instructions of an AlpacaEval outputs file: the other side's."""
  outputs = read_outputs(c.data.reference_outputs)
  return [
    Item(question, question, "", (question,))
    for question in limited(outputs, c.limit)
  ]


def score_captions(c, items, captions, prompts, ask):
  """Wins, ties and losses against the reference outputs, in both orders."""
  theirs = read_outputs(c.data.reference_outputs)
  theirs = {item.id: theirs[item.id] for item in items}
  pairs = duels(captions, theirs)
  rows, usage = judge_duels(pairs, prompts, ask, **c.judge_tokens)
  return rows, summarise(rows), usage


def list_files(c) -> list[str]:
  """The other side's answers."""
  return [c.data.reference_outputs]


BENCHMARK = Benchmark(list_items, score_captions, list_files, "")
