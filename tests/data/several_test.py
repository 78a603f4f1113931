"""Lists of frame files and of videos: one video to the rest of the program."""

import json

import numpy as np
import pytest
from PIL import Image

from synpo_jax.data import pairs, several, shards, video
from tests.support import clips

RULE = video.FrameRule(min_frames=2, max_frames=4, frames_per_second=1.0)


@pytest.fixture
def folder(tmp_path):
  """Two clips of 10 and 15 stamped frames, and six frames as files."""
  for name, first, count in (("a.avi", 0, 10), ("b.avi", 100, 15)):
    pictures = [clips.stamp(first + n) for n in range(count)]
    clips.write(
      tmp_path / name, pictures, rate=5, codec="mjpeg", pixels="yuvj420p"
    )
  for n in range(6):
    Image.fromarray(clips.stamp(200 + n)).save(tmp_path / f"f{n}.png")
  return tmp_path


def rows(folder, *named):
  """The pairs of rows with such fields, read back."""
  text = {"question": "Q?", "chosen": "a", "rejected": "b"}
  lines = [json.dumps(text | fields) + "\n" for fields in named]
  (folder / "rows.jsonl").write_text("".join(lines))
  return pairs.read_pairs(folder / "rows.jsonl").pairs


def decoded(folder, pair, rule=RULE):
  """The numbers that the frames of a row's video show."""
  located = pairs.locate([pair.video], folder)
  return clips.numbers(several.read(located.paths[pair.video], rule).frames)


def test_frames_of_a_list_are_as_many_as_the_rule_may_take(folder):
  files = [f"f{n}.png" for n in range(6)]
  flat, nested = rows(folder, {"video": files}, {"videos": [files]})
  assert flat.video == nested.video
  expected = [200 + n for n in np.linspace(0, 5, 4).astype(int)]
  assert decoded(folder, flat) == expected
  found = pairs.locate([flat.video], folder).paths[flat.video]
  clip = several.read(found, video.FrameRule(8, 16, 0.5))
  assert clips.numbers(clip.frames) == list(range(200, 206))
  assert clip.duration == 6 and clip.total == 6


def test_of_several_videos_those_of_one_with_all_their_frames(folder):
  question = "<video><video>\nQ?"
  named = {"videos": ["a.avi", "b.avi"], "question": question}
  (pair,) = rows(folder, named)
  assert pair.question == "Q?"
  every = [*range(10), *range(100, 115)]
  expected = [every[i] for i in np.linspace(0, 24, 4).astype(int)]
  assert decoded(folder, pair) == expected
  one = video.FrameRule(1, 1, 1.0)
  assert decoded(folder, pair, one) == [0]  # none of the second


def test_they_are_kept_decoded_and_known_by_the_content_of_each(folder):
  files = [f"f{n}.png" for n in range(6)]
  made = rows(folder, {"video": files}, {"videos": ["a.avi", "b.avi"]})
  names = [pair.video for pair in made]
  how = dict(rule=RULE, preprocess=video.Preprocess((12, 16)), workers=0)

  def keys():
    located = pairs.locate(names, folder)
    store = shards.build(located.paths, folder / "cache", **how)
    return {name: (p.folder, p.record) for name, p in store.places.items()}

  first = keys()
  assert set(first) == set(names) and keys() == first
  Image.fromarray(clips.stamp(7)).save(folder / "f3.png")
  again = keys()
  assert again[names[0]] != first[names[0]]
  assert again[names[1]] == first[names[1]]


@pytest.mark.parametrize(
  ("names", "said"),
  [
    (["a.avi", "none.avi"], "none.avi: no such file"),
    (["a.avi", "f0.png"], "pictures and videos in one list"),
    (["f0.png", "bad.png"], "bad.png: cannot be read as a picture"),
  ],
)
def test_what_cannot_be_read_is_named(folder, names, said):
  (folder / "bad.png").write_bytes(b"no picture")
  (pair,) = rows(folder, {"video": names})
  located = pairs.locate([pair.video], folder)
  store = {**located.missing}
  if located.paths:
    with pytest.raises(ValueError) as info:
      several.read(located.paths[pair.video], RULE)
    store[pair.video] = str(info.value)
  assert said in store[pair.video]


def test_more_marks_than_videos_are_refused(folder):
  with pytest.raises(ValueError, match="more than once"):
    rows(folder, {"video": "a.avi", "question": "<video><video> Q?"})
