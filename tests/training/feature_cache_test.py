"""Cached features: what the tower computes, once, never silently wrong."""

import dataclasses
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from synpo_jax.data import records, video
from synpo_jax.training import encoding, feature_cache
from tests.support.cached_data import (
  features,
  make_setting,
  read,
  said,
  write_pairs,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
  return make_setting(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def one_encoder(setting):
  """The tower is compiled once for all tests."""
  encode = encoding.make_encoder(setting.model, setting.tower, 4)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(encoding, "make_encoder", lambda *_: encode)
    yield


@pytest.fixture(scope="module")
def filled(setting, one_encoder):
  """A cache that holds the features of the three videos, and the data."""
  data = read(setting, setting.folder / "cache")
  return features(setting, setting.folder / "cache", verify=4)(data)


@pytest.fixture
def copied(setting, filled, tmp_path):
  """The same cache for a test that spoils it."""
  shutil.copytree(setting.folder / "cache", tmp_path / "cache")
  (folder,) = (tmp_path / "cache").glob("features-*")
  return SimpleNamespace(root=tmp_path / "cache", folder=folder)


def none_encoded(monkeypatch):
  def refuse(*_):
    raise AssertionError("the tower ran")

  def make(*_):
    return lambda frames, numbers: refuse() if len(numbers) else iter(())

  monkeypatch.setattr(encoding, "make_encoder", make)


def test_features_are_what_the_tower_computes(setting, filled):
  encode = jax.jit(
    lambda variables, frames: setting.model.apply(
      variables, frames, method="encode"
    )
  )
  data = read(setting, setting.folder / "cache")
  counts = [data.frames.count(n) for n in range(3)]
  assert counts == [1, 2, 3]
  for number, count in enumerate(counts):
    fresh = encode(setting.variables, data.frames(number)[None, :1])[0, 0]
    stored = filled.batches.visual(number)
    assert stored.dtype == ml_dtypes.bfloat16 and len(stored) == count
    # A value between two bfloat16 may go either way.
    np.testing.assert_allclose(
      stored[0].astype("f4"), fresh, rtol=2**-8, atol=1e-5
    )
  batch, same = data.batches[0], filled.batches[0]
  assert same.frames is None and same.features.shape[:3] == (1, 2, 4)
  np.testing.assert_array_equal(batch.prefix, same.prefix)


def test_a_second_run_computes_nothing(setting, filled, monkeypatch, capsys):
  none_encoded(monkeypatch)
  data = read(setting, setting.folder / "cache")
  again = features(setting, setting.folder / "cache")(data)
  assert said(capsys) == ["features: 3 read, 0 computed; verified 0"]
  for i in range(len(filled.batches)):
    one, other = filled.batches[i], again.batches[i]
    np.testing.assert_array_equal(one.features, other.features)


def test_only_new_videos_are_computed_wherever_the_old_ones_lie(
  setting, copied, tmp_path, capsys
):
  moved = tmp_path / "moved"
  shutil.copytree(setting.folder, moved, ignore=lambda *_: ["cache"])
  write_pairs(moved, ["v4.avi", "v3.avi", "v2.avi", "v1.avi"])
  data = read(
    setting, copied.root, pairs=str(moved / "pairs.jsonl"), videos=str(moved)
  )
  features(setting, copied.root)(data)
  assert said(capsys) == ["features: 3 read, 1 computed; verified 0"]


def other_weights(setting):
  kernel = setting.tower["patch"]["kernel"]
  patch = setting.tower["patch"] | {"kernel": kernel.at[0, 0, 0, 0].add(1e-3)}
  return dict(tower=setting.tower | {"patch": patch})


def other_ratio(setting):
  config = setting.model.config.with_kept_ratio(0.6)
  return dict(model=setting.model.clone(config=config))


def other_dtype(setting):
  return dict(model=setting.model.clone(dtype=jnp.bfloat16))


def other_pixels(setting):
  tower = dataclasses.replace(setting.model.config.tower, mean=(0.1, 0.2, 0.3))
  config = dataclasses.replace(setting.model.config, tower=tower)
  return dict(model=setting.model.clone(config=config))


def other_split(setting):
  """Features are what enters that layer of the tower."""
  return dict(model=setting.model.clone(split=1))


@pytest.mark.parametrize(
  "change",
  [other_weights, other_ratio, other_dtype, other_pixels, other_split],
)
def test_another_tower_never_meets_old_features(setting, copied, change):
  setting_name = feature_cache._setting
  changed = dict(model=setting.model, tower=setting.tower) | change(setting)
  assert copied.folder.name.endswith(setting_name(setting.model, setting.tower))
  assert not copied.folder.name.endswith(setting_name(**changed))


def test_other_frames_of_a_video_are_other_keys(setting, filled, tmp_path):
  same = read(setting, tmp_path / "cache")
  rule = video.FrameRule(min_frames=2, max_frames=4, frames_per_second=1.0)
  other = read(setting, tmp_path / "cache", rule=rule)
  bright = read(setting, tmp_path / "cache", size=(32, 32))
  for number in range(3):
    key = filled.frames.digest(number)
    assert same.frames.digest(number) == key
    assert bright.frames.digest(number) != key
  assert other.frames.digest(0) != same.frames.digest(0)  # 2 frames, not 1
  assert other.frames.digest(2) == same.frames.digest(2)  # 3 as before


def spoil(path, place):
  content = bytearray(path.read_bytes())
  content[place] ^= 1
  path.write_bytes(content)


def test_a_spoiled_record_is_never_used(setting, copied):
  (data_file,) = copied.folder.glob("*.array_record")
  attached = features(setting, copied.root)(read(setting, copied.root))
  array = attached.batches.visual(1)
  start = data_file.read_bytes().index(array.tobytes())
  spoil(data_file, start + 10)
  again = features(setting, copied.root)(read(setting, copied.root))
  again.batches.visual(0)
  with pytest.raises(records.Damaged, match=f"{data_file}, record 1: .*delete"):
    again.batches.visual(1)


def test_a_torn_file_is_said_and_computed_anew(setting, copied, capsys):
  (data_file,) = copied.folder.glob("*.array_record")
  data_file.write_bytes(data_file.read_bytes()[:-100])
  features(setting, copied.root)(read(setting, copied.root))
  first, second = said(capsys)
  assert first.startswith(f"features: {data_file} is torn")
  assert second == "features: 0 read, 3 computed; verified 0"
  assert not data_file.exists()


def test_other_content_under_the_right_key_is_found_at_the_start(
  setting, copied
):
  entries = records.inventory(copied.folder)
  keys, reader = list(entries), records.Reader(list(entries.values()))
  wrong = {key: reader(n) * 1.02 for n, key in enumerate(keys)}
  for path in copied.folder.glob("*.*"):
    path.unlink()
  records.write(copied.folder, wrong)
  data = read(setting, copied.root)
  with pytest.raises(ValueError, match=r"v1.avi are 0.02\d* off .*features=F"):
    features(setting, copied.root, verify=1)(data)


def test_a_stopped_run_goes_on_with_what_is_missing(
  setting, tmp_path, monkeypatch, capsys
):
  data = read(setting, tmp_path)
  write = records.write

  def once(folder, arrays):
    monkeypatch.setattr(records, "write", stop)
    write(folder, arrays)

  def stop(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(feature_cache, "CHUNK", 2)
  monkeypatch.setattr(records, "write", once)
  with pytest.raises(KeyboardInterrupt):
    features(setting, tmp_path)(data)
  monkeypatch.setattr(records, "write", write)
  features(setting, tmp_path)(data)
  assert said(capsys) == ["features: 2 read, 1 computed; verified 0"]


def test_every_process_takes_its_share(setting, tmp_path, monkeypatch):
  data = read(setting, tmp_path)
  attach = features(setting, tmp_path)
  monkeypatch.setattr(feature_cache, "_share", lambda: slice(1, None, 2))
  with pytest.raises(ValueError, match="no features of v1.avi, .* all proc"):
    attach(data)
  (folder,) = tmp_path.glob("features-*")
  assert list(records.inventory(folder)) == [data.frames.digest(1)]
  monkeypatch.setattr(feature_cache, "_share", lambda: slice(None))
  attach(data)
  assert len(records.inventory(folder)) == 3
