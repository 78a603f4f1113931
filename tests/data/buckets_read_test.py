"""Rows and videos in buckets are those of the same files on a disk."""

import numpy as np
import pytest

from synpo_jax.data import files, pairs, shards, sources, video
from synpo_jax.runtime import buckets
from tests.support import clips, row_files, stores

ROWS = [
  {"question": "What?", "chosen": f"A {n}.", "rejected": f"B {n}."}
  for n in range(5)
]
RULE = video.FrameRule(min_frames=2, max_frames=4, frames_per_second=1.0)


@pytest.mark.parametrize("kind", row_files.KINDS)
def test_every_kind_of_file_is_read(google, tmp_path, kind):
  row_files.KINDS[kind](tmp_path / kind, ROWS)
  place = f"{stores.upload(tmp_path, f'{google}/rows')}/{kind}"
  found = files.find(place)
  assert all(str(file).startswith(place) for file in found)
  assert [row for file in found for _, row in files.stream(file)] == ROWS


def test_several_files_and_their_faults_are_named(amazon, tmp_path):
  for name in ("a", "b"):
    (tmp_path / f"{name}.jsonl").write_bytes(row_files.lines(ROWS))
  place = stores.upload(tmp_path, f"{amazon}/several")
  assert len(pairs.read_pairs(f"{place}/*.jsonl").pairs) == 2 * len(ROWS)
  with pytest.raises(FileNotFoundError, match=f"{place}/c.jsonl: no such"):
    files.find(f"{place}/c.jsonl")
  (tmp_path / "b.jsonl").write_text("{}\nnone\n")
  stores.upload(tmp_path, place)
  with pytest.raises(ValueError, match=f"{place}/b.jsonl:2: is not JSON"):
    pairs.read_pairs(f"{place}/b.jsonl")


@pytest.fixture
def shown(google, tmp_path):
  """A folder of two clips, on the disk and in a bucket."""
  folder = tmp_path / "clips"
  (folder / "deep").mkdir(parents=True)
  clips.stamped(folder / "a.mp4", 5, rate=5)
  clips.stamped(folder / "deep" / "b.mp4", 10, rate=5)
  return folder, stores.upload(folder, f"{google}/clips")


def test_videos_are_found_and_decoded(shown, tmp_path):
  folder, place = shown
  names = ("a.mp4", "b", f"{place}/a.mp4", "gs://other/a.mp4", "/a.mp4", "c")
  located = pairs.locate(names, place)
  assert sorted(located.missing) == ["/a.mp4", "c", "gs://other/a.mp4"]
  store = shards.build(
    located.paths,
    tmp_path / "cache",
    rule=RULE,
    preprocess=video.Preprocess(size=(12, 16)),
    workers=0,
  )
  assert sorted(store.places) == sorted(names[:3])
  for name in ("a.mp4", "deep/b.mp4"):
    theirs = video.read(f"{place}/{name}", RULE)
    ours = video.read(folder / name, RULE)
    np.testing.assert_array_equal(theirs.frames, ours.frames)


def test_what_cannot_be_decoded_is_named_by_its_address(google):
  buckets.at(f"{google}/torn/x.mp4").write_bytes(b"no video")
  with pytest.raises(ValueError, match=f"^{google}/torn/x.mp4: cannot be read"):
    video.read(f"{google}/torn/x.mp4", RULE)


def test_ids_are_relative_to_the_root(shown):
  _, place = shown
  for wanted in (".", "**/*.mp4", place, f"{place}/a.mp4,deep"):
    found = sources.find(wanted, place)
    assert [source.id for source in found] == ["a.mp4", "deep/b.mp4"]
  found = sources.find(f"{place}/*.mp4", ".")
  assert [source.id for source in found] == [f"{place}/a.mp4"]
