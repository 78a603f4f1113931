"""Chunks hold the same videos in whatever order they came to be."""

import itertools
from pathlib import Path

from synpo_jax.data import windows

FILES = {f"v{i}": Path(f"{i}.mp4") for i in range(7)}


def names(plan):
  return {window.name: [key for key, _ in window.jobs] for window in plan}


def test_a_window_is_so_many_of_the_list():
  plan = windows.plan(FILES, stored=(), taken=(), size=3)
  assert names(plan) == {
    "chunk-00000": ["v0", "v1", "v2"],
    "chunk-00001": ["v3", "v4", "v5"],
    "chunk-00002": ["v6"],
  }
  assert plan[2].jobs == [("v6", Path("6.mp4"))]


def test_what_is_left_is_what_it_was_whichever_chunks_are_there():
  """v1 failed: it comes last, and moves no other."""
  whole = windows.plan(FILES, stored=(), taken=(), size=3)
  for count in range(4):
    for done in itertools.combinations(whole, count):
      stored = {key for window in done for key, _ in window.jobs} - {"v1"}
      taken = {window.name for window in done}
      plan = names(windows.plan(FILES, stored, taken, size=3))
      late = {"chunk-00003": ["v1"]} if "chunk-00000" in taken else {}
      assert plan == names(w for w in whole if w not in done) | late


def test_new_videos_take_names_that_are_free():
  taken = {"chunk-00000", "chunk-00001", "chunk-00003"}
  stored = {"v0", "v1", "v2"}
  plan = windows.plan(FILES, stored, taken, size=3)
  assert names(plan) == {
    "chunk-00002": ["v6"],
    "chunk-00004": ["v3", "v4", "v5"],
  }


def test_where_others_write_a_name_says_what_is_in_it():
  first = names(windows.plan(FILES, (), None, size=3))
  again = names(windows.plan(FILES, {"v3", "v4", "v5"}, None, size=3))
  assert again == {n: k for n, k in first.items() if k[0] != "v3"}
  (later,) = windows.plan(FILES, FILES.keys() - {"v1"}, None, size=3)
  assert later.name not in first
