"""Captions are read in whatever words they come; broken language is found."""

import numpy as np
import pytest

from synpo_jax.world import spoiling, staging, telling
from synpo_jax.world.fluency import fluency
from synpo_jax.world.reading import read_facts
from synpo_jax.world.scene import Event, Thing

SEEDS = range(60)


@pytest.fixture(scope="module")
def scenes():
  return [staging.sample(seed) for seed in SEEDS]


def worded(facts, rng, broken):
  told = telling.sentences(facts, rng)
  return " ".join(spoiling.clumsy(told, rng, broken))


def test_what_is_told_is_read(scenes):
  for scene in scenes:
    rng = np.random.default_rng(scene.seed)
    assert read_facts(telling.tell(scene.facts, rng)) == scene.facts


def test_spoilt_and_clumsy_captions_are_read_as_they_stand(scenes):
  for scene in scenes:
    rng = np.random.default_rng(scene.seed)
    for _ in range(4):
      facts, broken = spoiling.flawed(scene.facts, rng, 3)
      assert read_facts(worded(facts, rng, broken)) == facts


THING = {
  "r": ("circle", "red"),
  "b": ("square", "blue"),
  "w": ("star", "white"),
}
# Captions in nobody's templates: (text, background, tone, camera, events)
FOREIGN = (
  (
    "A small red circle rolls in from the left side of the frame, crosses a"
    " striped wall and then vanishes behind a big blue square. Meanwhile the"
    " camera slowly pans right.",
    ("stripes", None, "pan right"),
    [("enter", "r", "left", None), ("hide", "r", None, "b")],
  ),
  (
    "On a sunny day in a grassy field, the blue square turns green after the"
    " white star leaves through the bottom. The camera is static throughout.",
    ("field", "sunny", "static"),
    [("leave", "w", "bottom", None), ("colour", "b", "green", None)],
  ),
  (
    "The background is dark, with stars and a moon. The red circle moves right"
    " until it hits the blue square. The camera does not zoom or pan.",
    ("night", "moon", "static"),
    [("collide", "r", None, "b")],
  ),
  (
    "Before the red circle disappears, the white star travels from left to"
    " right. As the camera zooms out, the blue square heads up and to the left"
    " and then goes back. The wall is brown.",
    ("plain", "brown", "zoom out"),
    [
      ("move", "w", "right", None),
      ("leave", "r", None, None),
      ("turn", "b", "up left", None),
    ],
  ),
  (
    "A checkered wall, grey. The red circle is hit by the blue square, and the"
    " white star enters from the top and moves down.",
    ("checks", "grey", None),
    [("collide", "b", None, "r"), ("enter", "w", "top", None)],
  ),
)


@pytest.mark.parametrize("text, setting, events", FOREIGN)
def test_other_peoples_words_are_read(text, setting, events):
  facts = read_facts(text)
  names = {
    (thing.shape, thing.colour): i for i, thing in enumerate(facts.things)
  }
  index = {key: names.get(name) for key, name in THING.items()}
  assert (facts.background, facts.tone, facts.camera) == setting
  assert list(facts.events) == [
    Event(kind, index[who], where, None if whom is None else index[whom])
    for kind, who, where, whom in events
  ]
  assert fluency(text, "short")[0] == 5.0


def test_looks_and_places_are_read_from_full_sentences():
  facts = read_facts(
    "There is a large square that is blue in the middle. It never moves. The"
    " circle is red and small. It starts at the top right."
  )
  assert facts.things == (
    Thing("square", "blue", "large", "middle"),
    Thing("circle", "red", "small", "top right"),
  )
  assert facts.still == (0,)


def test_a_caption_that_contradicts_itself_is_right_in_neither():
  text = "The camera zooms in. The camera pans to the left."
  assert read_facts(text).camera == "zoom in and pan left"
  two = "The background is a plain grey wall. Behind it is a grassy field."
  assert read_facts(two).background == "plain and field"


# Language.


BROKEN = (
  "The red circle red circle moves up.",
  "The the camera pans left.",
  "Then the red circle moves to the",
  "The red circle moves to the left and to the left and to the left.",
  "Then the blue star.",
  "The triangleareen moves up.",
  "The camera The view pans left.",
  "Red the circle moves up.",
  "A red circle enters from from the left.",
  "The circle moves the left.",
  "The star is is blue.",
  "A large red at the top left.",
  "The ring moves up,, and turns red.",
  "At the start there is large red ring.",
  "Then moves moves blue.",
)


@pytest.mark.parametrize("sentence", BROKEN)
def test_broken_sentences_are_found(sentence):
  good = "The background is a plain grey wall. The camera zooms in."
  assert fluency(f"{good} The star turns red.")[0] == 5.0
  assert fluency(f"{good} {sentence}")[0] <= 3.5, sentence
