"""Several hosts without a common disk fill one cache in a bucket."""

import uuid

import numpy as np
import pytest

from synpo_jax.data import chunks, decoding, records, shards, video
from synpo_jax.runtime import buckets, exchange
from tests.support import clips, stores

RULE = video.FrameRule(min_frames=2, max_frames=4, frames_per_second=1.0)
PREPROCESS = video.Preprocess(size=(12, 16))


@pytest.fixture
def bucket():
  return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def paths(tmp_path, bucket):
  """Four clips in the bucket, and a file that is none."""
  folder = tmp_path / "clips"
  folder.mkdir()
  for i in range(1, 5):
    clips.stamped(folder / f"v{i}.mp4", 5 * i, rate=5)
  (folder / "v5.mp4").write_text("no video")
  place = buckets.at(stores.upload(folder, f"{bucket}/clips"))
  return {path.stem: path for path in place.files()}


def test_each_host_decodes_its_share_and_gets_the_others(
  tmp_path, bucket, paths, monkeypatch
):
  decoded, read = {"0": [], "1": []}, video.read
  made = {}

  def host(index):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / index))
    monkeypatch.setattr(
      decoding.video,
      "read",
      lambda path, *rest: decoded[index].append(path.stem) or read(path, *rest),
    )

  def build(index, together):
    host(index)
    made[index] = shards.build(
      paths,
      f"{bucket}/cache",
      rule=RULE,
      preprocess=PREPROCESS,
      workers=0,
      share=exchange.Share(int(index), 2, together),
    )

  def the_other(place):
    build("1", lambda place: None)
    host("0")

  build("0", the_other)
  assert decoded == {"0": ["v1", "v3", "v5"], "1": ["v2", "v4"]}
  for index, store in made.items():
    assert list(store.places) == ["v1", "v2", "v3", "v4"]
    assert "v5.mp4: cannot be read" in store.quarantined["v5"]
    frames = chunks.Frames(list(store.places.values()), PREPROCESS.size)
    assert all(str(tmp_path / index) in x.folder for x in frames._places)
    assert [len(frames(n)) for n in range(4)] == [2, 2, 3, 4]
  again = {**decoded, "1": list(decoded["1"])}
  build("1", lambda place: None)
  assert decoded == again  # nothing anew


def test_arrays_are_exchanged_once(tmp_path, bucket):
  remote = buckets.at(bucket) / "features"
  one, other = tmp_path / "one", tmp_path / "other"
  one.mkdir()
  records.write(one, {"a": np.arange(3)})
  (one / "torn.array_record").write_text("unfinished")
  exchange.push(one, remote)
  exchange.pull(other, remote)
  (entry,) = records.inventory(other).values()
  np.testing.assert_array_equal(records.Reader([entry])(0), np.arange(3))
  before = sorted(path.name for path in remote.files())
  exchange.push(other, remote)
  assert sorted(path.name for path in remote.files()) == before
  assert not (other / "torn.array_record").exists()
