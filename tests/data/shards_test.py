"""Decoded once, stored without loss, never half-built."""

import concurrent.futures as futures
import functools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from synpo_jax.data import chunks, decoding, records, shards, video
from tests.support import clips, crashing, small_files
from tests.support.paths import ROOT

RULE = video.FrameRule(min_frames=2, max_frames=4, frames_per_second=1.0)
PREPROCESS = video.Preprocess(size=(12, 16))


@pytest.fixture
def paths(tmp_path):
  """Five clips of 1 to 5 seconds."""
  folder = tmp_path / "clips"
  folder.mkdir()
  return {
    f"v{i}": clips.stamped(
      folder / f"v{i}.avi", 5 * i, rate=5, codec="mjpeg", pixels="yuvj420p"
    )
    for i in range(1, 6)
  }


def build(
  paths, tmp_path, rule=RULE, preprocess=PREPROCESS, workers=0, missing=None
):
  return shards.build(
    paths,
    tmp_path / "cache",
    rule=rule,
    preprocess=preprocess,
    workers=workers,
    missing=missing,
  )


@pytest.fixture
def decoded(monkeypatch):
  """Names of the files that are decoded from here on."""
  seen, read = [], video.read

  def spy(path, rule, prepare, limits=None):
    seen.append(path.stem)
    return read(path, rule, prepare, limits)

  monkeypatch.setattr(video, "read", spy)
  return seen


def frames_of(store):
  stored = chunks.Frames(list(store.places.values()), PREPROCESS.size)
  return {name: stored(i) for i, name in enumerate(store.places)}


def expected(paths):
  prepare = functools.partial(video.preprocess, form=PREPROCESS)
  return {n: video.read(p, RULE, prepare).frames for n, p in paths.items()}


def test_frames_are_stored_as_decoded(paths, tmp_path):
  store = build(paths, tmp_path)
  assert "tensorflow" not in sys.modules
  assert not store.quarantined
  for name, frames in frames_of(store).items():
    np.testing.assert_array_equal(frames, expected(paths)[name])
    assert store.places[name].frames == len(frames)
  assert [p.frames for p in store.places.values()] == [2, 2, 3, 4, 4]
  seconds = [place.seconds for place in store.places.values()]
  assert seconds == pytest.approx([0.8, 1.8, 1.4, 3.8 / 3, 1.6])


def test_a_video_has_whole_steps_of_frames_and_their_times(paths, tmp_path):
  store = build(paths, tmp_path)
  places = list(store.places.values())
  plain, paired = (chunks.Frames(places, PREPROCESS.size, n) for n in (1, 2))
  assert [plain.count(n) for n in range(5)] == [2, 2, 3, 4, 4]
  assert [paired.count(n) for n in range(5)] == [2, 2, 4, 4, 4]
  assert plain.times(2) == pytest.approx((0.0, 1.4, 2.8))  # 0, 7, 14 at 5 / s
  assert paired.times(2) == plain.times(2) + plain.times(2)[-1:]
  np.testing.assert_array_equal(paired(2)[:3], plain(2))
  np.testing.assert_array_equal(paired(2)[3], plain(2)[2])


def test_frames_travel_to_other_processes(paths, tmp_path):
  store = build(paths, tmp_path)
  stored = chunks.Frames(list(store.places.values()), PREPROCESS.size)
  first = stored(3)
  np.testing.assert_array_equal(pickle.loads(pickle.dumps(stored))(3), first)


def test_bad_videos_are_reported_and_the_others_stay(paths, tmp_path):
  (tmp_path / "words.mp4").write_text("no video")
  (tmp_path / "empty.mp4").write_bytes(b"")
  bad = {n: tmp_path / f"{n}.mp4" for n in ("words", "empty")}
  mixed = {"words": bad["words"], **paths, "empty": bad["empty"]}
  store = build(mixed, tmp_path, missing={"gone": "no such file"})
  assert set(store.places) == set(paths)
  rows = [json.loads(x) for x in store.report.read_text().splitlines()]
  reasons = {row["video"]: row["reason"] for row in rows}
  assert set(reasons) == {"words", "empty", "gone"} == set(store.quarantined)
  assert "words.mp4: cannot be read as video" in reasons["words"]
  assert reasons["empty"].endswith("the file is empty")
  again = build(paths, tmp_path)
  assert again.report.read_text() == "" and again.places == store.places


def test_no_usable_video_is_an_error(tmp_path):
  (tmp_path / "words.mp4").write_text("no video")
  with pytest.raises(ValueError, match="none of 2 videos can be used; gone"):
    build({"words": tmp_path / "words.mp4"}, tmp_path, missing={"gone": "lost"})


def test_only_what_changed_is_decoded_again(paths, tmp_path, decoded):
  first = build(paths, tmp_path)
  assert decoded == list(paths)
  decoded.clear()
  assert build(paths, tmp_path) == first and not decoded
  clips.stamped(paths["v2"], 25, rate=5, codec="mjpeg", pixels="yuvj420p")
  later = build(paths, tmp_path)
  assert decoded == ["v2"]
  assert (
    later.places["v2"].frames == 4 and later.places["v1"] == first.places["v1"]
  )
  decoded.clear()
  before = paths["v4"].stat()
  paths["v4"].write_bytes(paths["v4"].read_bytes()[::-1])
  os.utime(paths["v4"], ns=(before.st_atime_ns, before.st_mtime_ns))
  assert set(build(paths, tmp_path).quarantined) == {"v4"}
  assert decoded == ["v4"]


@pytest.mark.parametrize("file", ["clips.jsonl", "*/*/*record*", "*/*/d*json"])
def test_a_damaged_chunk_is_named_and_made_anew(
  paths, tmp_path, monkeypatch, file
):
  monkeypatch.setattr(shards, "CHUNK", 2)
  build(paths, tmp_path)
  (chunk,) = tmp_path.glob("cache/*/chunk-00000")
  (torn,) = chunk.glob(file)
  torn.write_bytes(torn.read_bytes()[:-30])
  with pytest.raises(records.Damaged, match=f"{chunk}: .* delete that folder"):
    frames_of(build(paths, tmp_path))
  shutil.rmtree(chunk)
  for name, frames in frames_of(build(paths, tmp_path)).items():
    np.testing.assert_array_equal(frames, expected(paths)[name])


@pytest.mark.parametrize(
  "change",
  [dict(record="0"), dict(frames=0), dict(digest=7), dict(more=1)],
  ids=str,
)
def test_a_list_of_clips_that_cannot_be_meant_is_named(paths, tmp_path, change):
  build(paths, tmp_path)
  (listed,) = tmp_path.glob("cache/*/chunk-00000/clips.jsonl")
  first, *others = listed.read_text().splitlines()
  rows = [json.dumps(json.loads(first) | change), *others]
  listed.write_text("\n".join(rows) + "\n")
  with pytest.raises(records.Damaged, match="chunk-00000: .* cannot be read"):
    build(paths, tmp_path)


@pytest.mark.parametrize("fields", ["record", "key", "digest", "frames"])
def test_frames_are_those_of_the_line_that_names_them(paths, tmp_path, fields):
  """Two clips of as many frames: no other field tells that they changed."""
  build({name: paths[name] for name in ("v4", "v5")}, tmp_path)
  (listed,) = tmp_path.glob("cache/*/chunk-00000/clips.jsonl")
  first, second = map(json.loads, listed.read_text().splitlines())
  assert first["frames"] == second["frames"]
  changed = {"frames": 3} if fields == "frames" else {fields: second[fields]}
  if fields == "key":  # else two lines had one
    second["key"] = first["key"]
  listed.write_text(f"{json.dumps(first | changed)}\n{json.dumps(second)}\n")
  said = f"{listed.parent}: .*clips.jsonl line [12] says .*; delete that folder"
  with pytest.raises(records.Damaged, match=said):
    frames_of(build({"v4": paths["v4"], "v5": paths["v5"]}, tmp_path))


def test_other_settings_live_in_other_folders(paths, tmp_path, decoded):
  one = {"v1": paths["v1"]}
  build(one, tmp_path)
  build(one, tmp_path, rule=video.FrameRule(2, 4, 2.0))
  build(one, tmp_path, preprocess=video.Preprocess((12, 16), "squash"))
  assert decoded == ["v1"] * 3
  assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_stopped_build_goes_on_with_what_it_lacks(
  paths, tmp_path, decoded, monkeypatch
):
  monkeypatch.setattr(shards, "CHUNK", 2)
  read = video.read

  def stopped(path, rule, prepare, limits):
    if path.stem == "v4":
      raise KeyboardInterrupt
    return read(path, rule, prepare, limits)

  with monkeypatch.context() as patch:
    patch.setattr(video, "read", stopped)
    with pytest.raises(KeyboardInterrupt):
      build(paths, tmp_path)
  (folder,) = (tmp_path / "cache").iterdir()
  assert [p.name for p in sorted(folder.glob("chunk-*"))] == ["chunk-00000"]
  (left,) = folder.glob("building-*")
  left.rename(folder / "building-0")  # as of another process
  decoded.clear()
  store = build(paths, tmp_path)
  assert decoded == ["v3", "v4", "v5"]
  assert not list(folder.glob("building-*"))
  for name, frames in frames_of(store).items():
    np.testing.assert_array_equal(frames, expected(paths)[name])


def test_two_builders_at_once_decode_everything_once(paths, tmp_path, decoded):
  with futures.ThreadPoolExecutor(2) as pool:
    stores = list(pool.map(lambda _: build(paths, tmp_path), range(2)))
  assert stores[0] == stores[1] and decoded == list(paths)


def test_a_crashing_decoder_costs_only_its_file():
  names = ["a", "b", "kill", "c", "d", "e", "f"]
  jobs = iter([(name, Path(name)) for name in names])
  outcomes = dict(decoding._parallel(jobs, crashing.task, workers=2))
  assert list(outcomes) == names
  assert outcomes.pop("kill") == f"kill: {decoding.CRASHED}"
  assert outcomes == {name: f"read {name}" for name in outcomes}


def test_a_decoder_ends_with_the_process_that_it_decodes_for():
  waits = (
    "import time; from synpo_jax.data import decoding\n"
    "pool = decoding._pool(1)\n"
    "print(pool.submit(__import__('os').getpid).result(), flush=True)\n"
    "time.sleep(60)"
  )
  start = [sys.executable, "-c", waits]
  with subprocess.Popen(start, cwd=ROOT, stdout=subprocess.PIPE) as parent:
    decoder = int(parent.stdout.readline())
    parent.kill()
  for _ in range(100):
    if not Path(f"/proc/{decoder}").exists():
      return
    time.sleep(0.1)
  os.kill(decoder, signal.SIGKILL)
  raise AssertionError("the decoder is still there")


def test_the_fields_of_a_record_have_one_order():
  """Which protobuf's own has not: it differs from process to process."""
  one, other = (
    tf_example_pb2.Example(features={"feature": {name: {}}})
    for name in ("z", "a")
  )
  contents = [x.SerializeToString() for x in (one, other)]
  there, back = b"".join(contents), b"".join(contents[::-1])
  assert chunks._ordered(there) == chunks._ordered(back)
  assert chunks._ordered(there).index(b"a") < chunks._ordered(there).index(b"z")


def test_worker_processes_give_the_same(paths, tmp_path):
  store = build(paths, tmp_path, workers=2)
  for name, frames in frames_of(store).items():
    np.testing.assert_array_equal(frames, expected(paths)[name])


def test_a_full_disk_is_named_and_the_cache_goes_on_with_room(paths, tmp_path):
  folder = tmp_path / "cache" / shards.fingerprint(RULE, PREPROCESS)
  said = f"^{folder}: cannot be written .*too large"
  with pytest.raises(OSError, match=said) as found:
    with small_files.limited(2000):
      build(paths, tmp_path)
  assert "\n" not in str(found.value)
  assert len(build(paths, tmp_path).places) == len(paths)
