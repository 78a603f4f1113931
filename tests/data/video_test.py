"""Frames of hostile and ordinary videos, against the official arrays."""

import functools

import numpy as np
import pytest

from synpo_jax.data import video
from tests.support import clips
from tests.support.paths import GOLDEN

RULE = video.FrameRule(min_frames=8, max_frames=16, frames_per_second=0.5)


def every_frame(duration, total):
  return np.arange(total)


@pytest.fixture(scope="module")
def clip_of(tmp_path_factory):
  """Makes each named clip once."""
  folder = tmp_path_factory.mktemp("clips")

  @functools.cache
  def make(name, count, **settings):
    settings = {
      k: dict(v) if k == "codec_options" else v for k, v in settings.items()
    }
    return clips.stamped(folder / name, count, **settings)

  return make


def test_rule_gives_the_official_indices():
  golden = np.load(GOLDEN / "frames.npz")
  assert golden["rational_differs"].sum() > 0  # float64 truncation matters
  for case in range(len(golden["duration"])):
    fixed = int(golden["fixed_frames"][case])
    rule = video.FrameRule(
      int(golden["min_frames"][case]),
      int(golden["max_frames"][case]),
      float(golden["frames_per_second"][case]),
      None if fixed < 0 else fixed,
    )
    total = int(golden["total_frames"][case])
    indices = rule(float(golden["duration"][case]), total)
    expected = golden["indices"][case]
    np.testing.assert_array_equal(indices, expected[expected >= 0])
    fewer = video.contrast_count(len(indices))
    expected = golden["contrast_indices"][case]
    np.testing.assert_array_equal(
      video.spread(0, total - 1, fewer), expected[expected >= 0]
    )


def test_contrast_counts_are_the_official_ones():
  golden = np.load(GOLDEN / "frames.npz")
  counts = [video.contrast_count(int(n)) for n in golden["contrast_count/n"]]
  np.testing.assert_array_equal(counts, golden["contrast_count/m"])


def test_frames_between_two_places_are_the_earlier_ones():
  # Of the official recipe: points 3.33 and 6.67, then 2.5, 5.0 and 7.5.
  assert video.spread(0, 10, 4).tolist() == [0, 3, 6, 10]
  assert video.spread(0, 10, 5).tolist() == [0, 2, 5, 7, 10]


def test_frames_may_be_the_nearest_to_their_places():
  # As Qwen3-VL's processor picks them: points 3.33, 6.67; 2.5 is even's.
  assert video.spread(0, 10, 4, "nearest").tolist() == [0, 3, 7, 10]
  assert video.spread(0, 10, 5, "nearest").tolist() == [0, 2, 5, 8, 10]
  rule = video.FrameRule(4, 768, 2.0, rounding="nearest")
  expected = np.linspace(0, 99, 7).round().astype(int)  # 3.96 s at 2 a second
  np.testing.assert_array_equal(rule(99 / 25, 100), expected)
  with pytest.raises(ValueError, match="rounding='up': choose one of down, n"):
    video.FrameRule(4, 8, 2.0, rounding="up")


def test_frames_have_their_times(clip_of):
  read = video.read(clip_of("times.mp4", 50), video.FrameRule(4, 4, 1.0))
  assert list(read.times) == [0.0, 16 / 25, 32 / 25, 49 / 25]


CONTAINERS = {
  "plain.mp4": dict(rate=25, seconds=1.6),
  "b_frames.mp4": dict(
    rate="30000/1001", codec_options=(("bf", "3"),), seconds=40 * 1.001 / 30
  ),
  "film.mov": dict(rate="24000/1001", seconds=40 * 1.001 / 24),
  "film.mkv": dict(rate="24000/1001", seconds=40 * 1.001 / 24),
  "slow.mkv": dict(rate="25/2", seconds=3.2),
  "vp8.webm": dict(codec="libvpx", rate="24000/1001", seconds=40 * 1.001 / 24),
  "odd_size.webm": dict(codec="libvpx-vp9", size=(35, 51), seconds=1.6),
  "b_frames.avi": dict(
    codec="mpeg4", codec_options=(("bf", "2"),), rate=25, seconds=1.6
  ),
  "pictures.avi": dict(
    codec="mjpeg", pixels="yuvj420p", rate=10, size=(33, 47), seconds=4.0
  ),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_is_counted_and_timed(name, clip_of):
  settings = CONTAINERS[name].copy()
  seconds = settings.pop("seconds")
  path = clip_of(name, 40, **settings)
  clip = video.read(path, every_frame)
  assert clips.numbers(clip.frames) == list(range(40))
  assert clip.total == 40
  assert clip.duration == pytest.approx(seconds, abs=1e-9)
  assert clip.frames.shape[1:3] == settings.get("size", (48, 64))
  sampled = video.read(path, RULE)
  expected = np.trunc(np.linspace(0, 39, 8)).astype(int).tolist()
  assert clips.numbers(sampled.frames) == expected == sampled.indices.tolist()


def test_variable_frame_rate_is_timed_by_its_last_frame(tmp_path):
  ticks = [0, 40, 80, 1000, 1040, 3000, 6000, 9000, 9040, 17900]
  path = clips.stamped(tmp_path / "vfr.mkv", 10, ticks=ticks)
  clip = video.read(path, RULE)
  assert clip.total == 10 and 17.9 < clip.duration < 20
  assert len(clip.indices) == 8


def test_a_single_frame_and_fewer_frames_than_asked_for(tmp_path):
  one = video.read(clips.stamped(tmp_path / "one.mp4", 1), RULE)
  assert one.indices.tolist() == [0] and one.total == 1
  assert one.duration == pytest.approx(0.04)
  three = video.read(
    clips.stamped(tmp_path / "three.webm", 3, codec="libvpx"), RULE
  )
  assert clips.numbers(three.frames) == [0, 1, 2]


def test_one_fixed_frame_more_than_there_are_repeats(tmp_path):
  path = clips.stamped(tmp_path / "three.mp4", 3)
  clip = video.read(path, video.FrameRule(1, 1, 1.0, fixed=5))
  assert clips.numbers(clip.frames) == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("name", ["plain.mp4", "film.mkv", "b_frames.avi"])
def test_a_truncated_file_gives_frames_of_what_is_left(name, tmp_path):
  settings = CONTAINERS[name].copy()
  del settings["seconds"]
  if name.endswith("mp4"):
    settings["options"] = {"movflags": "faststart"}
  if "codec_options" in settings:
    settings["codec_options"] = dict(settings["codec_options"])
  path = clips.stamped(tmp_path / name, 120, size=(240, 320), **settings)
  path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
  clip = video.read(path, RULE)
  assert 20 < clip.total < 110
  np.testing.assert_array_equal(
    clip.indices, np.trunc(np.linspace(0, clip.total - 1, 8))
  )
  whole = clips.numbers(clip.frames[:-1])  # the last one may be damaged
  assert whole == clip.indices[:-1].tolist()
  assert clip.duration < 6


def test_damage_in_the_middle_is_passed_over(tmp_path):
  path = clips.stamped(
    tmp_path / "holes.mkv", 100, codec="mjpeg", pixels="yuvj420p"
  )
  data = bytearray(path.read_bytes())
  data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
  path.write_bytes(data)
  clip = video.read(path, every_frame)
  assert 80 < clip.total < 100
  shown = clips.numbers(clip.frames)
  assert shown[:40] == list(range(40)) and shown[-20:] == list(range(80, 100))


def test_files_that_are_no_videos_are_named(tmp_path):
  (tmp_path / "empty.mp4").write_bytes(b"")
  (tmp_path / "words.mp4").write_text("not a video\n" * 200)
  (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
  (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile 'a.mp4'\n")
  clips.tone(tmp_path / "sound.mp4")
  head = clips.stamped(tmp_path / "head.mp4", 40)
  head.write_bytes(head.read_bytes()[:600])
  for name in ("empty", "words", "noise", "list", "sound", "head"):
    with pytest.raises(ValueError, match=f"{name}.mp4: ") as error:
      video.read(tmp_path / f"{name}.mp4", RULE)
    assert "\n" not in str(error.value)
  with pytest.raises(FileNotFoundError, match="gone.mp4"):
    video.read(tmp_path / "gone.mp4", RULE)


@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.mkv"])
def test_a_title_in_another_encoding_does_no_harm(name, tmp_path):
  path = clips.stamped(tmp_path / name, 5, codec="mpeg4")
  whole = path.read_bytes()
  assert b"Lavf" in whole
  path.write_bytes(whole.replace(b"Lavf", b"L\xe9vf"))
  assert video.read(path, every_frame).total == 5


def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  clips.stamped(tmp_path / "http:12:30.mp4", 2)
  assert video.read("http:12:30.mp4", every_frame).total == 2


CORNERS = np.zeros((48, 64, 3), np.uint8)
CORNERS[:24, :32] = (255, 0, 0)  # top left
CORNERS[:24, 32:] = (0, 255, 0)
CORNERS[24:, :32] = (0, 0, 255)  # bottom left
CORNERS[24:, 32:] = (255, 255, 255)

# Elements a, b, c, d of the matrix in a tkhd box, and where the red, green,
# blue and white quarters are then seen, read from the top left.
MATRICES = {
  "phone upright": ((0, 1, -1, 0), "BRWG"),
  "phone upside down": ((0, -1, 1, 0), "GWRB"),
  "head down": ((-1, 0, 0, -1), "WBGR"),
  "mirror": ((-1, 0, 0, 1), "GRWB"),
  "none": ((1, 0, 0, 1), "RGBW"),
}


def seen(picture):
  names = {(1, 0, 0): "R", (0, 1, 0): "G", (0, 0, 1): "B", (1, 1, 1): "W"}
  rows, columns = picture.shape[0] // 4, picture.shape[1] // 4
  spots = [(y, x) for y in (rows, 3 * rows) for x in (columns, 3 * columns)]
  return "".join(names[tuple((picture[s] > 128).astype(int))] for s in spots)


@pytest.mark.parametrize("name", MATRICES)
def test_clips_of_turned_phones_are_upright(name, tmp_path):
  elements, expected = MATRICES[name]
  path = clips.write(tmp_path / "turned.mp4", [CORNERS] * 3)
  data = bytearray(path.read_bytes())
  at = data.index(b"tkhd") + 44  # the matrix in the track header
  assert data[at : at + 4] == (1 << 16).to_bytes(4, "big")
  a, b, c, d = ((v << 16).to_bytes(4, "big", signed=True) for v in elements)
  zero = bytes(4)
  data[at : at + 20] = a + b + zero + c + d
  path.write_bytes(data)
  clip = video.read(path, RULE)
  turned = elements[0] == 0
  assert clip.frames.shape[1:3] == ((64, 48) if turned else (48, 64))
  assert [seen(picture) for picture in clip.frames] == [expected] * 3


def test_only_sampled_frames_are_prepared(clip_of):
  prepared = []

  def prepare(picture):
    prepared.append(clips.number(picture))
    return picture[:4, :4]

  clip = video.read(clip_of("plain.mp4", 40, rate=25), RULE, prepare)
  assert prepared == clip.indices.tolist()
  assert clip.frames.shape == (8, 4, 4, 3)


def test_a_changing_picture_size_is_refused_unless_prepared(tmp_path):
  path = clips.changing(tmp_path / "mixed.mkv")
  said = (
    r"mixed.mkv: the picture size changes along the way \(64x48 and 128x96 as "
    r"read\); re-encode it at one size, or set pixels.resize=squash, .*"
  )
  with pytest.raises(ValueError, match=said):
    video.read(path, every_frame)
  form = video.Preprocess((8, 8), "squash")
  squash = functools.partial(video.preprocess, form=form)
  clip = video.read(path, every_frame, squash)
  assert clip.frames.shape == (10, 8, 8, 3)


def test_a_rule_that_makes_no_sense_is_refused():
  with pytest.raises(ValueError, match="min_frames=9"):
    video.FrameRule(9, 8, 0.5)
  with pytest.raises(ValueError, match="fixed=0"):
    video.FrameRule(1, 8, 0.5, fixed=0)
