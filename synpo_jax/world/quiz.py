"""Questions about a clip in VDC's five categories, with exact answers.

A question carries a probe, which says what it asks for in terms of facts.
The same probe put to the scene graph gives the right answer, and put to the
facts read from a caption the answer that the caption alone allows.
"""

import dataclasses
import itertools

from synpo_jax.world import scene
from synpo_jax.world import wording as say
from synpo_jax.world.scene import Event, Facts

CATEGORIES = ("camera", "short", "background", "main_object", "detailed")
ORDINALS = ("first", "second", "third", "fourth")
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


def questions(facts: Facts) -> list[Question]:
  """All questions that a clip answers, category by category."""
  asked = [
    *_camera(),
    *_short(facts),
    *_background(facts),
    *_main_object(facts),
    *_detailed(facts),
  ]
  answered = [(*parts, ask(parts[2], facts)) for parts in asked]
  return [
    Question(text, answer, category, probe)
    for text, category, probe, answer in answered
    if answer is not None
  ]


Asked = tuple[str, str, tuple[str, ...]]


def _camera() -> list[Asked]:
  return [
    ("How does the camera move?", "camera", ("camera",)),
    ("Does the camera stay still?", "camera", ("camera is", "static")),
    ("Does the camera pan?", "camera", ("camera is", "pan")),
    ("Does the camera zoom?", "camera", ("camera is", "zoom")),
  ]


def _short(facts: Facts) -> list[Asked]:
  main = facts.things[scene.main_thing(facts)].shape
  return [
    ("What is the clip mainly about?", "short", ("main",)),
    ("Where is the clip set?", "short", ("place",)),
    ("What does the main object do first?", "short", ("main does",)),
    (f"What colour is the {main}?", "short", ("thing", main, "colour")),
  ]


def _background(facts: Facts) -> list[Asked]:
  outdoors = facts.background in ("field", "night")
  tone = {
    "field": "What is the weather like?",
    "night": "What can be seen in the sky?",
  }
  return [
    ("What is the background?", "background", ("background",)),
    ("Which background is it exactly?", "background", ("place",)),
    (
      tone.get(facts.background, "What tone does the background have?"),
      "background",
      ("tone",),
    ),
    ("Is this outdoors?", "background", ("outdoors",)),
    *([("Is it night?", "background", ("night",))] if outdoors else []),
  ]


def _main_object(facts: Facts) -> list[Asked]:
  shape = facts.things[scene.main_thing(facts)].shape
  name = f"the {shape}"
  asked = [
    ("What shape is the main object?", ("main shape",)),
    (f"What colour is {name} at first?", ("thing", shape, "colour")),
    (f"How large is {name}?", ("thing", shape, "size")),
    (f"Where is {name} at the start?", ("thing", shape, "zone")),
    (f"Does {name} move at all?", ("moves", shape)),
  ]
  asked += [
    (f"What does {name} do {ORDINALS[index]}?", ("does", shape, str(index)))
    for index in range(len(doings(facts, shape)))
  ]
  return [(text, "main_object", probe) for text, probe in asked]


def _detailed(facts: Facts) -> list[Asked]:
  asked: list[tuple[str, tuple[str, ...]]] = [
    ("How many objects appear?", ("count",)),
    ("What happens first?", ("happens", "0")),
    ("What happens last?", ("happens", "-1")),
  ]
  for thing in facts.things:
    name = f"the {thing.shape}"
    asked += [
      (f"What colour is {name} at first?", ("thing", thing.shape, "colour")),
      (f"How large is {name}?", ("thing", thing.shape, "size")),
      (f"Where is {name} at the start?", ("thing", thing.shape, "zone")),
    ]
  for event in dict.fromkeys(happenings(facts)):
    asked.append((f"Does it happen that {event}?", ("happens that", event)))
  once = [e for e in happenings(facts) if happenings(facts).count(e) == 1]
  for first, second in itertools.pairwise(once):
    pair = sorted((first, second))
    text = f"Which comes first: {pair[0]}, or {pair[1]}?"
    asked.append((text, ("earlier", *pair)))
  return [(text, "detailed", probe) for text, probe in asked]


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


def doings(facts: Facts, shape: str) -> list[str]:
  """What the thing of that shape does, in order."""
  return [
    happening(facts, event)
    for event in facts.events
    if facts.things[event.who].shape == shape
  ]


def ask(probe: tuple[str, ...], facts: Facts) -> str | None:
  """The answer that facts give to a probe; None if they give none."""
  kind, *rest = probe
  return PROBES[kind](facts, *rest)


def _of_camera(facts: Facts) -> str | None:
  return CAMERA.get(facts.camera)


def _camera_is(facts: Facts, what: str) -> str | None:
  if facts.camera is None:
    return None
  return "yes" if facts.camera.startswith(what) else "no"


def _place(facts: Facts) -> str | None:
  return say.PLACES.get((facts.background, facts.tone))


def _outdoors(facts: Facts) -> str | None:
  if facts.background not in scene.BACKGROUNDS:
    return None
  return "yes" if facts.background in ("field", "night") else "no"


def _night(facts: Facts) -> str | None:
  if facts.background not in scene.BACKGROUNDS:
    return None
  return "yes" if facts.background == "night" else "no"


def _main(facts: Facts) -> str | None:
  if not facts.things:
    return None
  thing = facts.things[scene.main_thing(facts)]
  return f"a {thing.size} {thing.colour} {thing.shape}"


def _main_shape(facts: Facts) -> str | None:
  return facts.things[scene.main_thing(facts)].shape if facts.things else None


def _main_does(facts: Facts) -> str | None:
  shape = _main_shape(facts)
  if shape is None:
    return None
  done = doings(facts, shape)
  return done[0] if done else "nothing"


def _thing(facts: Facts, shape: str, field: str) -> str | None:
  for thing in facts.things:
    if thing.shape == shape:
      missing = "not in view" if field == "zone" else None
      return getattr(thing, field) or missing
  return None


def _moves(facts: Facts, shape: str) -> str | None:
  if all(thing.shape != shape for thing in facts.things):
    return None
  kinds = {e.kind for e in facts.events if facts.things[e.who].shape == shape}
  return "yes" if kinds - {"colour"} else "no"


def _does(facts: Facts, shape: str, index: str) -> str | None:
  done = doings(facts, shape)
  return done[int(index)] if int(index) < len(done) else None


def _happens(facts: Facts, index: str) -> str | None:
  events = happenings(facts)
  return events[int(index)] if events else None


def _happens_that(facts: Facts, event: str) -> str | None:
  if not facts.events:
    return None
  return "yes" if event in happenings(facts) else "no"


def _earlier(facts: Facts, first: str, second: str) -> str | None:
  events = happenings(facts)
  if first not in events or second not in events:
    return None
  return min((first, second), key=events.index)


PROBES = {
  "camera": _of_camera,
  "camera is": _camera_is,
  "background": lambda facts: facts.background,
  "tone": lambda facts: facts.tone,
  "place": _place,
  "outdoors": _outdoors,
  "night": _night,
  "main": _main,
  "main shape": _main_shape,
  "main does": _main_does,
  "thing": _thing,
  "moves": _moves,
  "count": lambda facts: str(len(facts.things)) if facts.things else None,
  "does": _does,
  "happens": _happens,
  "happens that": _happens_that,
  "earlier": _earlier,
}
