"""Videos that are none, never end, or are shown otherwise than stored."""

from fractions import Fraction

import numpy as np
import pytest

from synpo_jax.data import decoding, shards, sources, video
from synpo_jax.data.limits import Limits
from tests.support import clips, endless

RULE = video.FrameRule(min_frames=8, max_frames=16, frames_per_second=0.5)
AMPLE = dict(seconds=60.0, frames=1000, pixels=10**6, bytes=10**7)

PLAYLISTS = {
  "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n",
  "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n",
  "list.mp4": "ffconcat version 1.0\n" + "file {clip}\n" * 20,
  "dash.mp4": '<?xml version="1.0"?>\n<MPD type="static" '
  'xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet><Representation><BaseURL>{clip}'
  "</BaseURL></Representation></AdaptationSet></Period></MPD>\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_no_other_file_is_opened_through_a_playlist(name, tmp_path):
  clips.stamped(tmp_path / "clip.ts", 10)
  (tmp_path / name).write_text(PLAYLISTS[name].format(clip="clip.ts"))
  with pytest.raises(ValueError, match=f"{name}: cannot be read") as error:
    video.read(tmp_path / name, RULE)
  assert "\n" not in str(error.value)


def test_a_picture_is_no_video_and_a_pattern_names_one_file(tmp_path):
  for number in range(3):
    clips.write(
      tmp_path / f"{number}.jpg", [clips.stamp(number)], codec="mjpeg",
      pixels="yuvj420p", options={"update": "1"},
    )  # fmt: skip
  with pytest.raises(ValueError, match="0.jpg: cannot be .* picture"):
    video.read(tmp_path / "0.jpg", RULE)
  with pytest.raises(FileNotFoundError, match="%d.jpg: no such video"):
    video.read(tmp_path / "%d.jpg", RULE)


def test_the_cover_of_an_album_is_no_video(tmp_path):
  path = clips.album(tmp_path / "song.mp4")
  with pytest.raises(ValueError, match="song.mp4: its only picture is attach"):
    video.read(path, RULE)


@pytest.mark.parametrize("name", ["a.gif", "a.ts", "a.flv", "a.wmv", "a.mpg"])
def test_other_containers_are_read_and_found(name, tmp_path):
  codecs = {".gif": "gif", ".wmv": "wmv2", ".mpg": "mpeg2video"}
  codec = codecs.get(name[1:], "libx264")
  pixels = "rgb8" if codec == "gif" else "yuv420p"
  path = clips.stamped(tmp_path / name, 40, codec=codec, pixels=pixels)
  clip = video.read(path, lambda duration, total: np.arange(total), None)
  assert clips.numbers(clip.frames) == list(range(40))
  (source,) = sources.find(".", tmp_path)
  assert source.id == name


def test_what_a_folder_has_besides_videos_is_counted(tmp_path, caplog):
  for name in ("a.mp4", "b.MOV", "c.txt", "d.txt", "e.rmvb", "f"):
    (tmp_path / name).write_bytes(b"x")
  for part in (".", "*"):
    caplog.clear()
    found = sources.find(part, tmp_path)
    assert [source.id for source in found] == ["a.mp4", "b.MOV"]
    line = f"{part}: 2 videos; passed over 2 .txt, 1 .rmvb, 1 without suffix"
    assert caplog.messages == [line]
  caplog.clear()
  sources.find("*.mp4", tmp_path)
  assert not caplog.messages


SHAPES = {
  "wide": (Fraction(4, 3), (48, 85)),
  "tall": (Fraction(3, 4), (64, 64)),
  "square": (Fraction(1), (48, 64)),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_pixels_that_are_not_square_are_stretched(name, suffix, tmp_path):
  shape, size = SHAPES[name]
  codec = "libx264" if suffix == "mp4" else "mpeg4"
  path = clips.stamped(
    tmp_path / f"a.{suffix}", 40, codec=codec, pixel_shape=shape
  )
  clip = video.read(path, lambda duration, total: np.arange(total))
  assert clip.frames.shape[1:3] == size
  assert clips.numbers(clip.frames) == list(range(40))


def test_a_turned_picture_is_stretched_as_it_is_stored(tmp_path):
  path = clips.stamped(
    tmp_path / "a.mp4", 3, rotation=90, pixel_shape=Fraction(4, 3)
  )
  assert video.read(path, RULE).frames.shape[1:3] == (85, 48)


TOO_MUCH = {
  "frames": (39, "too many frames, limits.frames=39 is the most"),
  "pixels": (3071, "frames of 64 x 48, limits.pixels=3071 is the most"),
  "bytes": (100, "limits.bytes=100 is the most"),
  "seconds": (1e-9, "takes too long, limits.seconds=1e-09 is the most"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_each_limit_is_held_and_named(name, tmp_path):
  path = clips.stamped(tmp_path / "a.mp4", 40)
  assert video.read(path, RULE, None, Limits(**AMPLE)).total == 40
  most, reason = TOO_MUCH[name]
  with pytest.raises(ValueError, match=f"a.mp4: .*{reason}"):
    video.read(path, RULE, None, Limits(**AMPLE | {name: most}))


def test_stretched_pixels_count_and_limits_must_leave_something(tmp_path):
  path = clips.stamped(tmp_path / "a.mp4", 3, pixel_shape=Fraction(16))
  with pytest.raises(ValueError, match="frames of 1024 x 48, limits.pixels"):
    video.read(path, RULE, None, Limits(**AMPLE | {"pixels": 4000}))
  for value in (0, -1, float("nan")):
    with pytest.raises(ValueError, match="limits.seconds=.* above 0"):
      Limits(**AMPLE | {"seconds": value})


def test_a_video_beyond_the_limits_is_quarantined_alone(tmp_path):
  paths = {
    name: clips.stamped(tmp_path / f"{name}.mp4", count)
    for name, count in (("short", 10), ("long", 60))
  }
  store = shards.build(
    paths,
    tmp_path / "cache",
    rule=RULE,
    preprocess=video.Preprocess(size=(12, 16)),
    workers=0,
    limits=Limits(**AMPLE | {"frames": 50}),
  )
  assert list(store.places) == ["short"]
  assert "limits.frames=50" in store.quarantined["long"]
  assert "limits.frames=50" in store.report.read_text()


def test_a_decoder_that_does_not_come_back_is_ended(tmp_path, monkeypatch):
  path = clips.stamped(tmp_path / "a.mp4", 3)
  monkeypatch.setattr(decoding, "GRACE", 0.0)
  outcomes = decoding.decode(
    [("a", path)],
    rule=endless.Endless(1, 1, 1.0),
    preprocess=video.Preprocess(size=(12, 16)),
    workers=1,
    limits=Limits(**AMPLE | {"seconds": 0.5}),
  )
  assert list(outcomes) == [("a", f"{path}: {decoding.CRASHED}")]
