"""Controls: captions of the untrained captioner, merely nudged."""

import numpy as np

from synpo_jax.study import controls

SHORT = "A red star moves up."
LONG = "The camera pans left. A red star moves up. Then the star turns blue."


def test_a_constant_sentence_where_none_is_said_of_the_camera():
  found = controls.constant_sentence({"a": SHORT, "b": LONG, "c": ""})
  assert found == {
    "a": "A red star moves up. The camera stays still.",
    "b": LONG,
    "c": "The camera stays still.",
  }


def test_the_likeliest_of_several():
  drawn = [("x", 0.2), ("y", 0.5), ("z", 0.5)]
  assert controls.best_by_certainty(drawn) == "y"


def words(captions):
  return np.mean([len(text.split()) for text in captions.values()])


def test_equal_length_by_cutting_and_by_choosing():
  # cut: 4, 9 or 14 words are to be had; 9 and 9 are wanted.
  long, none = {"a": LONG, "b": LONG}, {"a": [], "b": []}
  nine = dict.fromkeys(long, "w " * 9)
  found = controls.equal_length(long, none, nine)
  assert found == dict.fromkeys(
    long, LONG.removesuffix(" Then the star turns blue.")
  )
  # 7 and 11: what the first has too many or too few, the second makes up for.
  found = controls.equal_length(long, none, {"a": "w " * 7, "b": "w " * 11})
  assert words(found) == 9
  # chosen: the nearest of the others, where the caption is too short.
  others = {"a": ["w " * 30, LONG], "b": [SHORT, "w " * 12]}
  short = dict.fromkeys(others, SHORT)
  found = controls.equal_length(short, others, {"a": LONG, "b": "w " * 12})
  assert found == {"a": LONG, "b": "w " * 12}
  # none is long enough: no debt is carried on.
  found = controls.equal_length(short, {"a": [], "b": []}, nine)
  assert found == short


def test_every_control_is_of_the_same_videos(monkeypatch):
  before = {"a": LONG, "b": SHORT}
  asked = []

  def greedy(*given, most, beginning, **settings):
    asked.append((most, beginning, settings))
    return {video: f"{beginning} a wall." for video in ("b", "a")}

  def sampled(*given, candidates, **settings):
    return {v: [(SHORT, 0.1), (LONG, 0.2)] for v in ("b", "a")}

  monkeypatch.setattr(controls.batch_captions, "greedy", greedy)
  monkeypatch.setattr(controls.batch_captions, "sampled", sampled)
  found = controls.write(
    "model",
    {},
    "data",
    before,
    {"a": LONG, "b": LONG},
    candidates=2,
    end=1,
  )
  assert asked == [(2, "The background is", {"end": 1})]
  assert {name: list(texts) for name, texts in found.items()} == {
    name: ["a", "b"]
    for name in (
      "forced beginning",
      "constant sentence",
      "equal length",
      "best of 2 by S",
    )
  }
  assert found["best of 2 by S"] == {"a": LONG, "b": LONG}
  assert found["equal length"]["b"] == LONG
