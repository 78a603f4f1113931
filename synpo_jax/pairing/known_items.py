"""What a judge of candidate captions is tried with, criterion by criterion.

In the words of criteria.py, and read as there. Of an empty caption only
fluency is asked: the notes contradict nothing in it.
"""

from synpo_jax.data import prompts
from synpo_jax.judging.known_clips import (
  BENCH,
  BROKEN,
  KITCHEN,
  NOTES,
  SWAPPED,
)
from synpo_jax.judging.trial import Known, Wanted, at_least, at_most
from synpo_jax.pairing import criteria

ALIKE = (BENCH.told, BENCH.retold, " ".join(NOTES))


def items() -> list[Known]:
  """Questions of known answers, on each of the three criteria."""
  return [
    _factuality("a right caption", BENCH.told, at_least(4)),
    _factuality("a wrong caption", KITCHEN.told, at_most(2)),
    _factuality("a caption with the people swapped", SWAPPED, at_most(3)),
    _fluency("a good caption", BENCH.told, at_least(3)),
    _fluency("broken words", BROKEN, at_most(2)),
    _fluency("an empty caption", "", at_most(1)),
    _consistency("three alike and another", [*ALIKE, KITCHEN.told], 3),
    _consistency("another and three alike", [KITCHEN.told, *ALIKE], 0),
  ]


def _factuality(what, caption, wanted) -> Known:
  text = criteria.factuality_text(caption, list(NOTES))
  return _known("factuality", what, text, wanted)


def _fluency(what, caption, wanted) -> Known:
  text = criteria.fluency_text(caption, prompts.TRAINING_QUESTION)
  return _known("fluency", what, text, wanted)


def _consistency(what, captions, other) -> Known:
  """other: which of the captions is the one that departs."""

  def holds(scores):
    alike = [score for index, score in scores.items() if index != other]
    return scores[other] < min(alike)

  wanted = Wanted(f"less for caption {other + 1} than for any other", holds)
  text = criteria.consistency_text(captions)
  asked = list(range(len(captions)))
  return _known("consistency", what, text, wanted, asked)


def _known(criterion, what, text, wanted, asked=None) -> Known:
  request = criteria.request("trial", criterion, None, text, asked)
  return Known(request._replace(id=f"{criterion} of {what}"), wanted)
