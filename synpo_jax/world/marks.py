"""What a caption claims of a clip, claim by claim: right, wrong or left out.

A claim is one field of one thing or event: that the star is blue, that it
moves, that it moves up. docs/scores.md defines what is counted.
"""

import re
from collections.abc import Hashable
from typing import NamedTuple

from synpo_jax.world import comparison, quiz
from synpo_jax.world import wording as say
from synpo_jax.world.reading import read_facts
from synpo_jax.world.scene import Event, Facts

RIGHT, WRONG, MISSING = "right", "wrong", "left out"
KINDS = ("background", "tone", "camera", "shape", "colour", "size", "place")
KINDS += ("event", "direction", "side", "new colour", "whom", "order")
_OF_FIELD = {"zone": "place", "kind": "event"}
_OF_WAY = {
  "move": "direction",
  "turn": "direction",
  "enter": "side",
  "leave": "side",
  "colour": "new colour",
}


class Mark(NamedTuple):
  """One claim.

  key: the same for the same claim of other captions of the clip. kind: one of
  `KINDS`, or `still`. verdict: RIGHT, WRONG, or MISSING for a true claim that
  is not made. needed: whether a detailed account has to make it, so that the
  needed ones are the clip's true claims, told or not. words: what is so, of a
  needed claim; else what was said.
  """

  key: Hashable
  kind: str
  verdict: str
  needed: bool
  words: str


def of_caption(caption: str, truth: Facts) -> list[Mark]:
  """The clip's true claims and how they fare, then what else is claimed."""
  return of_facts(read_facts(caption), truth)


def of_facts(told: Facts, truth: Facts) -> list[Mark]:
  """As `of_caption`, of what has been read already."""
  who = comparison.match_things(told, truth)
  paired = comparison.match_events(told, truth, who)
  claims = comparison.told_claims(told, who, paired)
  true = comparison.true_claims(truth)
  marks = [
    Mark(
      key,
      _kind(key, truth.events),
      _verdict(key, claims, true),
      key[0] != "still",
      in_words(key, truth),
    )
    for key in true
    if key[0] != "still" or key in claims
  ]
  marks += _order(truth, paired, claims, true)
  told_events = {paired[index]: told.events[index] for index in paired}
  marks += [
    Mark(key, _kind(key, told_events), WRONG, False, str(claims[key]))
    for key in claims
    if key not in true
  ]
  return marks + _invented(told, who, paired)


def _verdict(key, claims, true) -> str:
  if key not in claims:
    return MISSING
  return RIGHT if claims[key] == true[key] else WRONG


def _kind(key, events) -> str:
  head, *field = (key,) if isinstance(key, str) else (key[0], *key[2:])
  if not field:
    return head
  if field[0] == "where":
    return _OF_WAY.get(events[key[1]].kind, "direction")
  return _OF_FIELD.get(field[0], field[0])


def _order(truth: Facts, paired, claims, true) -> list[Mark]:
  """Of neighbouring events: which comes first, from who tells both rightly."""
  told = {true_index: index for index, true_index in paired.items()}
  marks = []
  for first in range(len(truth.events) - 1):
    pair = (first, first + 1)
    keys = [("event", index, "kind") for index in pair]
    if all(_verdict(key, claims, true) == RIGHT for key in keys):
      verdict = RIGHT if told[pair[0]] < told[pair[1]] else WRONG
    else:
      verdict = MISSING
    one, other = (quiz.happening(truth, truth.events[i]) for i in pair)
    words = f"{one} before {other}"
    marks.append(Mark(("order", first), "order", verdict, True, words))
  return marks


def _invented(told: Facts, who, paired) -> list[Mark]:
  """Every claim of things that are not there and of what does not happen."""
  fields = {"shape": "shape", "colour": "colour", "size": "size"}
  fields |= {"zone": "place"}
  marks = []
  for index, thing in enumerate(told.things):
    if index not in who:
      marks += [
        (("invented", index, field), kind, str(getattr(thing, field)))
        for field, kind in fields.items()
        if getattr(thing, field) is not None
      ]
  for index, event in enumerate(told.events):
    if index not in paired:
      words = comparison.in_words(told, event)
      marks += [
        (("happens", index, field), kind, words)
        for field, kind in _claimed(event)
      ]
  return [Mark(key, kind, WRONG, False, words) for key, kind, words in marks]


def _claimed(event: Event) -> list[tuple[str, str]]:
  found = [("kind", "event")]
  if event.where is not None:
    found.append(("where", _OF_WAY.get(event.kind, "direction")))
  return found + ([("whom", "whom")] if event.whom is not None else [])


def in_words(key: Hashable, truth: Facts) -> str:
  """A true claim, as a person would note it."""
  if key == "camera":
    return quiz.CAMERA[truth.camera].replace("it", "the camera", 1)
  if isinstance(key, str):
    return say.PLACES[truth.background, truth.tone]
  head, index, *field = key
  if head == "event":
    return quiz.happening(truth, truth.events[index])
  thing = truth.things[index]
  if head == "still":
    return f"the {thing.shape} stays where it is"
  if field == ["shape"]:
    return f"a {thing.size} {thing.colour} {thing.shape}"
  value = getattr(thing, field[0])
  value = say.ZONES[value] if field == ["zone"] else value
  return f"the {thing.shape} is {value}"


def left_out(marks: list[Mark]) -> list[str]:
  """What a caption does not say, each in words once; no order of events."""
  gone = [m for m in marks if m.verdict == MISSING and m.kind != "order"]
  whole = {m.key[1] for m in gone if m.kind == "shape"}
  words = [
    mark.words
    for mark in gone
    if mark.key[0] != "thing"
    or mark.kind == "shape"
    or mark.key[1] not in whole
  ]
  return list(dict.fromkeys(words))


# What a word stands for, where more than one claim hangs on it.
_RANK = ("background", "camera", "shape", "event", "colour", "size", "place")


def coloured(caption: str, truth: Facts) -> list[tuple[str, str | None]]:
  """(word, verdict) of every word of a caption, with the space behind it.

  A word bears the verdict of the claim that its sentence and those before no
  longer make without it, or without it and its neighbour; None where no claim
  hangs on it. Where several do, as on the name of a thing, the first of
  `_RANK` counts.
  """
  final, before, told = _made(caption, truth), "", []
  for sentence in re.findall(r"[^.!?;]+[.!?;]*\s*", caption):
    words = re.findall(r"\s*\S+\s*", sentence)
    verdicts = _verdicts(words, before, truth, final)
    told += zip(words, verdicts, strict=True)
    before += sentence
  return told


def _verdicts(words, before, truth, final) -> list[str | None]:
  verdicts: list[str | None] = [None] * len(words)
  whole = _made(before + "".join(words), truth)
  for size in (1, 2):
    for start in range(len(words) - size + 1):
      gone = slice(start, start + size)
      if any(verdicts[gone]):
        continue
      kept = [*words[:start], *map(_emptied, words[gone]), *words[gone.stop :]]
      rest = _made(before + "".join(kept), truth)
      hang = [
        final.get(key, mark)
        for key, mark in whole.items()
        if rest.get(key) != mark
      ]
      verdicts[gone] = [_first(hang)] * size
  return verdicts


def _emptied(word: str) -> str:
  """A word's punctuation and space without the word."""
  return re.sub(r"[\w']+", "", word)


def _made(caption: str, truth: Facts) -> dict[Hashable, Mark]:
  marks = of_caption(caption, truth)
  return {mark.key: mark for mark in marks if mark.verdict != MISSING}


def _first(marks: list[Mark]) -> str | None:
  ranks = {kind: rank for rank, kind in enumerate(_RANK)}
  if not marks:
    return None
  return min(marks, key=lambda m: ranks.get(m.kind, len(_RANK))).verdict
