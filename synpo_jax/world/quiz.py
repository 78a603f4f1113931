"""Questions about a clip, each fact asked once, with exact answers.

A question carries a probe, which says what it asks for in terms of facts.
The same probe put to the scene graph gives the right answer, and put to the
facts read from a caption the answer that the caption alone allows.
"""

import dataclasses
import itertools

import numpy as np

from synpo_jax.world import inventing, scene
from synpo_jax.world import wording as say
from synpo_jax.world.scene import Event, Facts, Scene

# VDC's five, without what happens; what does, and what does not.
CATEGORIES = ("camera", "background", "short", "main_object", "detailed")
CATEGORIES += ("events", "invented")
FORMS = {
  "move": "moves {where}",
  "turn": "moves {where} and turns back",
  "enter": "enters from {where}",
  "leave": "leaves through {where}",
  "colour": "turns {where}",
  "collide": "collides with the {whom}",
  "hide": "hides behind the {whom}",
}
CAMERA = {
  "static": "it stays still",
  "pan left": "it pans to the left",
  "pan right": "it pans to the right",
  "zoom in": "it zooms in",
  "zoom out": "it zooms out",
}


@dataclasses.dataclass(frozen=True)
class Question:
  """One question, the right answer, and what it probes."""

  text: str
  answer: str
  category: str
  probe: tuple[str, ...]


def questions(scene: Scene) -> list[Question]:
  """All questions that a clip answers, category by category.

  Events that do not happen are asked about as often as those that do. They
  are drawn from the scene's seed, so that every caption is asked the same.
  """
  facts = scene.facts
  asked = [
    ("How does the camera move?", "camera", ("camera",)),
    *_background(facts),
    ("What is the clip mainly about?", "short", ("main",)),
    *_things(facts),
    *_events(facts),
    *_invented(scene),
  ]
  return [
    Question(text, ask(probe, facts), category, probe)
    for text, category, probe in asked
  ]


Asked = tuple[str, str, tuple[str, ...]]


def _background(facts: Facts) -> list[Asked]:
  tone = {
    "field": "What is the weather like?",
    "night": "What can be seen in the sky?",
  }.get(facts.background, "What tone does the background have?")
  return [
    ("What is the background?", "background", ("background",)),
    (tone, "background", ("tone",)),
  ]


def _things(facts: Facts) -> list[Asked]:
  """How many there are, and the looks and the place of each."""
  asked = [("How many objects appear?", "detailed", ("count",))]
  main = scene.main_thing(facts)
  for index, thing in enumerate(facts.things):
    category = "main_object" if index == main else "detailed"
    name, shape = f"the {thing.shape}", thing.shape
    texts = {
      "colour": f"What colour is {name} at first?",
      "size": f"How large is {name}?",
      "zone": f"Where is {name} at the start?",
    }
    asked += [
      (text, category, ("thing", shape, field))
      for field, text in texts.items()
      if getattr(thing, field) is not None
    ]
  return asked


def _events(facts: Facts) -> list[Asked]:
  """Whether each event happens, and which of two neighbours comes first."""
  asked = [
    _happens(facts, event, "events") for event in dict.fromkeys(facts.events)
  ]
  told = happenings(facts)
  once = [event for event in told if told.count(event) == 1]
  for pair in itertools.pairwise(once):
    first, second = sorted(pair)
    text = f"Which comes first: {first}, or {second}?"
    asked.append((text, "events", ("earlier", first, second)))
  return asked


def _invented(scene: Scene) -> list[Asked]:
  rng = np.random.default_rng([scene.seed, 20261126])
  made = ()
  for _ in dict.fromkeys(scene.facts.events):
    event = inventing.invent(scene.facts, rng, made)
    made += () if event is None else (event,)
  return [_happens(scene.facts, event, "invented") for event in made]


def _happens(facts: Facts, event: Event, category: str) -> Asked:
  words = happening(facts, event)
  shape = facts.things[event.who].shape
  probe = ("happens that", words, shape)
  return f"Does it happen that {words}?", category, probe


def happening(facts: Facts, event: Event) -> str:
  """An event in fixed words, things named by their shape."""
  where = event.where or "somewhere"
  if event.kind in ("move", "turn"):
    where = say.WAYS.get(where, where)
  elif event.kind in ("enter", "leave"):
    where = say.SIDES.get(where, where)
  whom = "other" if event.whom is None else facts.things[event.whom].shape
  words = FORMS[event.kind].format(where=where, whom=whom)
  return f"the {facts.things[event.who].shape} {words}"


def happenings(facts: Facts) -> list[str]:
  """All events in order, in fixed words."""
  return [happening(facts, event) for event in facts.events]


def ask(probe: tuple[str, ...], facts: Facts) -> str | None:
  """The answer that facts give to a probe; None if they give none."""
  kind, *rest = probe
  return PROBES[kind](facts, *rest)


def _main(facts: Facts) -> str | None:
  return facts.things[scene.main_thing(facts)].shape if facts.things else None


def _thing(facts: Facts, shape: str, field: str) -> str | None:
  for thing in facts.things:
    if thing.shape == shape:
      return getattr(thing, field)
  return None


def _happens_that(facts: Facts, event: str, shape: str) -> str | None:
  """`no` only from who says something else of what that thing does."""
  if event in happenings(facts):
    return "yes"
  told = {index for e in facts.events for index in (e.who, e.whom)}
  told = (told | set(facts.still)) - {None}
  return "no" if shape in {facts.things[i].shape for i in told} else None


def _earlier(facts: Facts, first: str, second: str) -> str | None:
  events = happenings(facts)
  if first not in events or second not in events:
    return None
  return min((first, second), key=events.index)


PROBES = {
  "camera": lambda facts: CAMERA.get(facts.camera),
  "background": lambda facts: facts.background,
  "tone": lambda facts: facts.tone,
  "main": _main,
  "thing": _thing,
  "count": lambda facts: str(len(facts.things)) if facts.things else None,
  "happens that": _happens_that,
  "earlier": _earlier,
}
