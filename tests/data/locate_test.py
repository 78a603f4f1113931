"""Videos that rows name, found below a folder."""

import pytest

from synpo_jax.data import pairs


@pytest.fixture
def videos(tmp_path):
  root = tmp_path / "videos"
  for name in (
    "a.mp4",
    "sub/b.webm",
    "sub/b.txt",
    "x/c.mp4",
    "y/c.MOV",
    "d.json",
  ):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"")
  return root


def test_videos_are_found_by_path_name_or_stem(videos):
  names = ["a.mp4", "a", "b", "b.webm", "sub/b.webm", str(videos / "a.mp4")]
  located = pairs.locate(names, videos)
  assert not located.missing
  found = [str(located.paths[n].relative_to(videos)) for n in names]
  assert found == ["a.mp4", "a.mp4", *["sub/b.webm"] * 3, "a.mp4"]


def test_missing_videos_are_told_and_other_files_do_not_count(videos):
  gone = ["d", "e.mp4", "/nowhere/f.mp4", 5000 * "g", "h\0"]
  located = pairs.locate(["a.mp4", *gone], videos)
  assert list(located.paths) == ["a.mp4"]
  assert list(located.missing) == gone
  with pytest.raises(FileNotFoundError, match="no such folder of videos"):
    pairs.locate(["a"], videos / "gone")


def test_a_name_that_fits_two_videos_is_refused(videos):
  with pytest.raises(ValueError, match="'c' could be any of x/c.mp4, y/c.MOV"):
    pairs.locate(["a.mp4", "c"], videos)
  assert pairs.locate(["x/c.mp4", "c.MOV"], videos).missing == {}
