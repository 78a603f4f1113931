"""Paths in buckets read and write as local ones do."""

import pathlib

import pytest

from synpo_jax.runtime import buckets, digests


@pytest.fixture(params=("google", "amazon"))
def bucket(request):
  """The address of a bucket in each store."""
  return request.getfixturevalue(request.param)


def test_a_text_means_a_local_path_or_one_in_a_bucket(tmp_path):
  assert buckets.at("runs/a") == pathlib.Path("runs/a")
  assert buckets.at(f"file://{tmp_path}") == tmp_path
  path = buckets.at("gs://b/runs/a.txt")
  assert isinstance(path, buckets.BucketPath)
  told = str(path), str(path.parent), path.name, str(path.parent / "x")
  assert told == ("gs://b/runs/a.txt", "gs://b/runs", "a.txt", "gs://b/runs/x")
  assert str(buckets.join("clips", "gs://b/c.mp4")) == "gs://b/c.mp4"
  assert buckets.join("gs://b/clips", "/c.mp4") == pathlib.Path("/c.mp4")
  assert str(buckets.join("gs://b/clips", "d/c.mp4")) == "gs://b/clips/d/c.mp4"


def test_objects_are_written_read_and_listed(bucket):
  root = buckets.at(bucket) / "here"
  (root / "a.txt").write_text("größer")
  with (root / "deep" / "b.bin").open("wb") as file:
    file.write(bytes(range(256)))
  assert (root / "a.txt").read_text() == "größer"
  assert (root / "deep" / "b.bin").part(3, 4) == bytes([3, 4, 5, 6])
  with pytest.raises(OSError, match="ends before byte 300"):
    (root / "deep" / "b.bin").part(250, 50)
  with (root / "a.txt").open(encoding="utf-8") as lines:
    assert list(lines) == ["größer"]
  names = [str(x.relative_to(root)) for x in root.files()]
  assert names == ["a.txt", "deep/b.bin"]
  assert [x.name for x in root.glob("*")] == ["a.txt", "deep"]
  assert buckets.matching(f"{root}/**/*.bin") == [root / "deep" / "b.bin"]
  kinds = root.is_dir(), root.is_file(), (root / "a.txt").is_file()
  assert kinds == (True, False, True)
  assert (root / "a.txt").stat().st_size == len("größer".encode())
  before = (root / "a.txt").version()
  (root / "a.txt").write_text("kleiner")
  assert (root / "a.txt").version() != before
  (root / "a.txt").unlink()
  assert not (root / "a.txt").exists()
  with pytest.raises(FileNotFoundError, match=f"{root}/a.txt"):
    (root / "a.txt").read_bytes()


def test_an_object_is_new_or_refused(amazon):
  path = buckets.at(amazon) / "owner"
  path.create(b"mine")
  with pytest.raises(FileExistsError, match="s3://bucket/owner"):
    path.create(b"yours")
  assert path.read_bytes() == b"mine"


def test_a_digest_is_that_of_the_same_bytes_on_disk(google, tmp_path):
  content = bytes(range(256)) * 5
  (tmp_path / "x").write_bytes(content)
  path = buckets.at(google) / "x"
  path.write_bytes(content)
  assert digests.of(path) == digests.of(tmp_path / "x")


def test_a_store_without_its_library_says_what_to_install(monkeypatch):
  def missing(scheme, **_):
    raise ImportError("Please install gcsfs to access Google Storage")

  buckets._system.cache_clear()
  monkeypatch.setattr(buckets.fsspec, "filesystem", missing)
  said = r"^gs://b/x: Please install gcsfs .*: pip install .*\[cloud\]"
  with pytest.raises(ValueError, match=said):
    buckets.at("gs://b/x").exists()
