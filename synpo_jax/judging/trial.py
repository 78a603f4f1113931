"""A judge on trial: questions of known answers, before it scores anything.

A judge that marks everything alike, or upside down, gives scores like any
other. So it is first asked what can be known: about a right answer, a wrong
one, one in which things are swapped, an empty one; in the words in which it
will be asked, and read in the same way. Its replies are kept, so that a run
that goes on asks nothing twice.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from synpo_jax.endpoints import secrets, server
from synpo_jax.judging import judge
from synpo_jax.runtime import journal, json_file
from synpo_jax.runtime.terminal import below, printable

CACHE = "judge_trial.jsonl"  # in the workdir: replies, paid for once
RESULT = "judge_trial.json"  # what came of the trial, failed or not
SHOWN = 200  # letters of a reply


class Wanted(NamedTuple):
  """What an answer has to be: in words, and of the value that was read."""

  words: str
  holds: Callable[[Any], bool]


class Known(NamedTuple):
  """A question whose answer is known; the request's id says what it is of."""

  request: judge.Request
  wanted: Wanted


def at_least(bound: int) -> Wanted:
  """A score of so much or more."""
  return Wanted(f"{bound} or more", lambda score: score >= bound)


def at_most(bound: int) -> Wanted:
  """A score of so much or less."""
  return Wanted(f"{bound} or less", lambda score: score <= bound)


class Failed(ValueError):
  """The judge answered, and more often wrongly than it may."""


def hold(
  known: list[Known], workdir: Path, **section: Any
) -> tuple[dict, judge.Usage]:
  """(what came of it, cost of this call), once the judge has passed.

  Args:
    known: what is asked.
    workdir: replies and result are kept in it.
    section: the judge of a config, as configs/evaluation.py has it.

  Raises:
    Failed: more than may_fail replies are wrong or cannot be read.
    ValueError: the judge cannot be had, or leaves a question unanswered.
  """
  aside, settings = judge.part(section)
  heard = {}
  requests = [_overheard(item.request, heard) for item in known]

  def ask(*to):
    return judge.ask(*to, cache=workdir / CACHE, **settings)

  answers, usage = judge.collect(ask, requests)
  who = _who(settings)
  _refuse_silence(who, answers.values())
  items = [_item(item, answers, heard) for item in known]
  found = {
    "judge": server.model_name(settings["model"], judge.JUDGE),
    "known_items": len(items),
    "failed": sum(not item["passed"] for item in items),
    "may_fail": aside.may_fail,
    "items": items,
  }
  text = json.dumps(found, indent=2, ensure_ascii=False)
  journal.replace(workdir / RESULT, f"{text}\n".encode("utf-8", "replace"))
  if found["failed"] > aside.may_fail:
    raise Failed(_failure(who, found))
  return found, usage


def hold_early(
  known: list[Known], workdir: Path, **section: Any
) -> judge.Usage:
  """The same before there is anything to judge; the cost of this call.

  Raises Failed. A judge that cannot be had is said to be tried later.
  """
  try:
    return hold(known, workdir, **section)[1]
  except Failed:
    raise
  except ValueError as error:
    logging.warning("the judge is tried when there are captions: %s", error)
    return judge.Usage()


def result(workdir: Path) -> dict | None:
  """What came of the last trial in a workdir; None where there was none."""
  path = workdir / RESULT
  way = "remove it; the next trial writes it again"
  return json_file.read(path, way) if path.exists() else None


def sentence(found: dict) -> str:
  """What came of a trial, in a line for people."""
  known = found["known_items"]
  right = known - found["failed"]
  return f"judge {found['judge']}: {right} of {known} known items right"


def _overheard(request, heard):
  """The request; `heard` gets the last reply to it, readable or not."""

  def parse(reply):
    heard[request.id] = reply
    return request.parse(reply)

  return request._replace(parse=parse)


def _who(settings) -> str:
  """The judge's model, and where it is asked, as they may be shown."""
  model = server.model_name(settings["model"], judge.JUDGE)
  url = secrets.shown(server.address(settings["base_url"], judge.JUDGE))
  return f"{model} at {url}" if url else model


def _refuse_silence(who, answers):
  """Raises ValueError where a question has no answer, right or wrong."""
  missing = [answer.missing for answer in answers if answer.missing]
  lost = [why for why in missing if not why.startswith("unusable")]
  if lost:
    later = lost[0].startswith("unavailable")
    way = "run again later" if later else f"check {judge.JUDGE.options}"
    raise ValueError(
      f"judge: {who} left {len(lost)} of {len(answers)} known items without "
      f"an answer ({lost[0]}); nothing was scored, {way}"
    )


def _item(item, answers, heard) -> dict:
  """What one question came to, as the summary has it."""
  name = item.request.id
  answer = answers[name]
  reply = " ".join(printable(heard[name]).split())
  return {
    "item": name,
    "wanted": item.wanted.words,
    "replied": reply if len(reply) <= SHOWN else f"{reply[:SHOWN]}…",
    "passed": answer.missing is None and item.wanted.holds(answer.value),
  }


def _failure(who, found) -> str:
  """The refusal: what was asked, what was wanted, what came."""
  failed, count = found["failed"], found["known_items"]
  return below(
    f"judge: {who} answers {failed} of {count} known items wrongly, "
    f"where {found['may_fail']} may be; nothing was scored. Take another "
    f"judge, or let it pass with judge.may_fail={failed}",
    [
      f"{item['item']}: wanted {item['wanted']}, replied {item['replied']!r}"
      for item in found["items"]
      if not item["passed"]
    ],
  )
