"""Names of settings keep their bytes; what differs is found by key."""

import json

from synpo_jax.runtime import settings

VALUE = {"seed": 1, "data": {"root": "clips/é", "frames": (8, 16)}, "on": None}
OTHER = {"seed": 1, "data": {"root": "clips/e", "frames": [8, 16]}, "new": 2}


def test_marks_that_files_hold_stay_valid():
  # As fb1272e made them, where captions, pair stages, the judge's replies and
  # recipes each had a function of their own.
  assert settings.digest(VALUE, 12) == "7cebc79a7e56"
  assert settings.digest(VALUE, 64) == (
    "7cebc79a7e56393698cf67fab53b7abc7f7307f7612ee4a21c838332b354b4ef"
  )
  assert settings.digest(VALUE, 16, ensure_ascii=False) == "bd30a9cec1f5b923"
  backwards = dict(reversed(VALUE.items()))
  assert settings.digest(backwards, 12) == "7cebc79a7e56"


def test_names_that_are_not_utf_8_have_a_digest_too():
  plain, torn = "clips/x", "clips/\udcff"
  for escaped in (True, False):
    named = [
      settings.digest({"root": root}, 16, ensure_ascii=escaped)
      for root in (plain, torn)
    ]
    assert len(set(named)) == 2


def test_differences_have_their_sections_and_both_values():
  assert list(settings.differences(VALUE, OTHER)) == [
    ("data.root", "clips/é", "clips/e"),
    ("new", "absent", 2),
    ("on", None, "absent"),
  ]


def test_what_is_no_number_is_alike():
  nan = {"lr": float("nan"), "all": [1, float("nan")]}
  assert list(settings.differences(nan, dict(nan))) == []
  assert list(settings.differences(nan, nan | {"lr": 1.0})) != []


def test_a_folder_keeps_the_settings_it_was_begun_with(tmp_path):
  path = tmp_path / "run" / "settings.json"
  assert settings.claim(path, VALUE) == []
  assert settings.claim(path, VALUE) == []
  assert settings.claim(path, VALUE | {"seed": 2}) == [("seed", 1, 2)]
  assert json.loads(path.read_text())["seed"] == 1
  assert settings.claim(path, VALUE | {"seed": 2}, anew=True) == []
  assert json.loads(path.read_text())["seed"] == 2


def test_a_free_key_frees_its_section_and_no_longer_name():
  keys = ("every", "every.checkpoint", "everything", "data", "data.limits")
  found = [settings.Difference(key, 1, 2) for key in keys]
  bound = settings.fixed(found, iter(("every", "data.limits")))
  assert [one.key for one in bound] == ["everything", "data"]
