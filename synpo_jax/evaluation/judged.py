"""The judge of a benchmark: tried first, then asked, perhaps several times."""

import pathlib
from typing import NamedTuple

from synpo_jax.endpoints import paid
from synpo_jax.evaluation import known_items
from synpo_jax.evaluation.repeats import Scored, combine
from synpo_jax.judging import judge, trial
from synpo_jax.runtime import progress

CACHE = "judge.jsonl"  # its replies, in the workdir


class Judged(NamedTuple):
  """Rows and summary, what the trial came to, and the cost of this call."""

  rows: list[dict]
  summary: dict
  tried: dict
  usage: judge.Usage


def try_early(c, prompts, workdir: pathlib.Path) -> judge.Usage:
  """Tries the judge before captions are made; see trial.hold_early."""
  return trial.hold_early(_known(c, prompts), workdir, **c.judge.to_dict())


def score(c, benchmark, workdir, items, captions, prompts) -> Judged:
  """The benchmark's scores of the captions, once the judge has passed.

  Raises ValueError where it fails its trial (trial.Failed), or cannot be had.
  """
  known, section = _known(c, prompts), c.judge.to_dict()
  tried, usage = trial.hold(known, workdir, **section)
  aside, settings = judge.part(section)
  rounds = []
  for repeat in range(aside.repeats):
    ask = _make_ask(settings, workdir / CACHE, repeat)
    *scored, cost = benchmark.score(c, items, captions, prompts, ask)
    rounds.append(Scored(*scored))
    usage = paid.together(usage, cost)
  return Judged(*combine(rounds), tried, usage)


def _known(c, prompts) -> list[trial.Known]:
  return known_items.KNOWN[c.benchmark](prompts, **c.judge_tokens)


def _make_ask(settings, cache, repeat):
  """judge.ask of this repeat, with the config's settings and a bar."""

  def ask(requests, on_answer):
    requests = [request._replace(repeat=repeat) for request in requests]
    with progress.bar("judge", len(requests)) as advance:

      def note(answer, usage):
        on_answer(answer, usage)
        advance(1, usage.note())

      return judge.ask(requests, note, cache=cache, **settings)

  return ask
