"""Lists of videos in JSONL: what a row may call its video."""

import json

import pytest

from synpo_jax.data import sources


@pytest.fixture
def listing(tmp_path):
  (tmp_path / "a.mp4").write_bytes(b"")
  path = tmp_path / "list.jsonl"

  def write(row):
    path.write_text(json.dumps(row) + "\n")
    return path.name

  return write


@pytest.mark.parametrize(
  "row", [{"video_path": "a.mp4"}, {"videos": ["a.mp4"]}, {"video": "a.mp4"}]
)
def test_a_lists_videos_go_by_the_names_of_rows(listing, tmp_path, row):
  assert [s.id for s in sources.find(listing(row), tmp_path)] == ["a.mp4"]


@pytest.mark.parametrize(
  "row, reason",
  [
    ({"clip": "a.mp4"}, "line 1: 'clip' holds a video, which is not read"),
    ({"videos": ["a.mp4", "b.mp4"]}, "line 1: 'videos' lists 2 videos"),
    ({"image": "a.png"}, "line 1: 'image' holds a picture"),
    ([{"video": "a.mp4"}], "list.jsonl: is one JSON array"),
  ],
)
def test_others_are_refused_by_name(listing, tmp_path, row, reason):
  with pytest.raises(ValueError, match=reason):
    sources.find(listing(row), tmp_path)
