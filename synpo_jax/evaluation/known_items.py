"""What the judge of a benchmark is tried with: answers right, wrong, swapped.

In the benchmark's own words, whoever wrote them, and read as its replies are.
"""

import re

from synpo_jax.evaluation import (
  judge_prompts,
  preference,
  relations,
  vdc,
  vdd,
)
from synpo_jax.judging.known_clips import BENCH, KITCHEN, NOTHING
from synpo_jax.judging.trial import Known, Wanted, at_least, at_most

COLOURS = "red|green|blue|yellow|black|white|brown|grey|gray|orange|pink|purple"
COAT = "What colour is the woman's coat?"
GIVEN = "What does the woman hand to the man?"
READER = "Who reads aloud, and to whom?"
TASK = "Describe this video in detail."
CAPITAL = "What is the capital of France?"
STILL = "A grey stone wall under a cloudy sky."
# Statements that BENCH entails, that it does not, and with the people swapped.
RIGHT = ("The woman hands a book to the man.", "The man reads a page aloud.")
OTHER = ("Two cooks chop onions.", "Flames rise from a black pan.")
SWAPPED = (
  "The woman reads a page to the man.",
  "The man walks away to the left.",
)


def of_vdc(
  prompts: judge_prompts.Prompts, *, answer_tokens: int, compare_tokens: int
) -> list[Known]:
  """Both calls: an answer of a caption, and an answer beside its key."""

  def answered(what, caption, wanted):
    asked = f"an answer of {what}", COAT, caption, prompts, answer_tokens
    return Known(vdc.answer_request(*asked), wanted)

  def compared(what, wanted, *fields):
    asked = f"verdict on {what}", *fields, prompts, compare_tokens
    return Known(vdc.compare_request(*asked), wanted)

  green = BENCH.told.replace("yellow", "green")
  reads, swapped = "the man, to the woman", "the woman, to the man"
  return [
    answered("a caption that tells it", BENCH.told, _colour("yellow")),
    answered("a caption of another colour", green, _colour("green")),
    answered("an empty caption", "", _colour("")),
    compared("a right answer", YES, GIVEN, "a book", "She hands him a book."),
    compared("another right answer", YES, COAT, "yellow", "it is yellow"),
    compared("a wrong answer", NO, GIVEN, "a book", "a bunch of flowers"),
    compared("another wrong answer", NO, COAT, "yellow", "it is black"),
    compared("an answer with the people swapped", NO, READER, reads, swapped),
    compared("an empty answer", NO, GIVEN, "a book", ""),
  ]


YES = Wanted("yes", lambda verdict: verdict.correct)
NO = Wanted("no", lambda verdict: not verdict.correct)


def _colour(name: str) -> Wanted:
  """An answer that names this colour and no other, "" being none."""

  def holds(text):
    return {*re.findall(rf"\b(?:{COLOURS})\b", text.lower())} == {*name.split()}

  return Wanted(f"{name or 'no colour'} alone", holds)


def of_vdd(prompts: judge_prompts.Prompts, *, max_tokens: int) -> list[Known]:
  """Descriptions beside the reference of their own clip, and of another."""

  def marked(what, clip, caption, wanted):
    reference = vdd.Reference(f"detail of {what}", TASK, clip.told)
    request = vdd.request(reference, caption, prompts, max_tokens)
    return Known(request, wanted)

  return [
    marked("a right description", BENCH, BENCH.retold, at_least(3)),
    marked("another right description", KITCHEN, KITCHEN.retold, at_least(3)),
    marked("a description that says nothing", BENCH, NOTHING, at_most(2)),
    marked("two swapped, the first", BENCH, KITCHEN.retold, at_most(2)),
    marked("two swapped, the second", KITCHEN, BENCH.retold, at_most(2)),
    marked("an empty description", BENCH, "", at_most(1)),
  ]


def of_preference(
  prompts: judge_prompts.Prompts, *, max_tokens: int
) -> list[Known]:
  """A good answer beside one that is not, in both orders."""
  good, known = "The capital of France is Paris.", []
  for what, bad in {
    "a wrong answer": "The capital of France is Rome.",
    "one to another question": "Bananas are yellow when they are ripe.",
    "an empty answer": "",
  }.items():
    for place, pair in ((1, (good, bad)), (2, (bad, good))):
      name = f"a right answer and {what}" + (", swapped" if place == 2 else "")
      request = preference.request(name, CAPITAL, *pair, prompts, max_tokens)
      known.append(Known(request, _is(place)))
  return known


def _is(place: int) -> Wanted:
  return Wanted(str(place), lambda better: better == place)


def of_events(
  prompts: judge_prompts.Prompts, *, event_tokens: int, relate_tokens: int
) -> list[Known]:
  """Events of a clip and of a picture, then what keypoints are tried with."""
  known = []
  for what, text, wanted in (
    ("a clip", BENCH.told, _events(3, 12)),
    ("a picture in which nothing happens", STILL, _events(0, 1)),
  ):
    asked = f"events of {what}", text, prompts, event_tokens
    known.append(Known(relations.events_request(*asked), wanted))
  return known + of_keypoints(prompts, relate_tokens=relate_tokens)


def of_keypoints(
  prompts: judge_prompts.Prompts, *, relate_tokens: int
) -> list[Known]:
  """Statements that a description entails, and such that it does not."""

  def related(what, text, claims, entailed):
    asked = f"relations of {what}", text, claims, prompts, relate_tokens
    return Known(relations.request(*asked), _entailed(entailed))

  mixed = RIGHT[0], OTHER[0]
  return [
    related("right statements", BENCH.told, RIGHT, (True, True)),
    related("wrong statements", BENCH.told, OTHER, (False, False)),
    related(
      "statements of swapped people", BENCH.told, SWAPPED, (False, False)
    ),
    related("a right and a wrong one", BENCH.told, mixed, (True, False)),
    related("these two swapped", BENCH.told, mixed[::-1], (False, True)),
    related("an empty description", "", RIGHT, (False, False)),
  ]


def _events(least: int, most: int) -> Wanted:
  return Wanted(
    f"{least} to {most} events", lambda found: least <= len(found) <= most
  )


def _entailed(wanted: tuple[bool, ...]) -> Wanted:
  words = ", ".join("entailment" if yes else "no entailment" for yes in wanted)

  def holds(found):
    return tuple(relation == relations.ENTAILED for relation in found) == wanted

  return Wanted(words, holds)


# By benchmark: (prompts, **judge_tokens) -> what its judge is tried with.
KNOWN = {
  "vdc": of_vdc,
  "vdd": of_vdd,
  "preference": of_preference,
  "events": of_events,
  "keypoints": of_keypoints,
}
