"""Timing of packets, and seeking against sequential decoding."""

import functools
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from synpo_jax.data import container, video
from synpo_jax.data.limits import Budget
from tests.support import clips


def test_a_last_frame_without_length_gets_the_average_of_the_others():
  ticks = Fraction(1, 1000)
  silent = SimpleNamespace(time_base=ticks, average_rate=0, guessed_rate=0)
  times = np.array([0, 50, 200])
  assert container._duration(times, 200, silent) == pytest.approx(0.3)
  assert container._duration(times, 260, silent) == pytest.approx(0.26)
  assert container._duration(times[:1], 0, silent) == 0.0
  rated = SimpleNamespace(time_base=ticks, average_rate=25, guessed_rate=25)
  assert container._duration(times[:1], 0, rated) == pytest.approx(0.04)


SEEKS = {
  "closed.mp4": dict(codec_options={"g": "12", "bf": "2"}),
  "open.mkv": dict(
    codec_options={"g": "12", "bf": "3", "x264-params": "open-gop=1"}
  ),
  "refresh.mkv": dict(
    codec_options={"g": "12", "x264-params": "intra-refresh=1"}
  ),
  "vp9.webm": dict(codec="libvpx-vp9", codec_options={"g": "12"}),
}


@pytest.mark.parametrize("name", SEEKS)
def test_seeking_gives_the_frames_of_sequential_decoding(name, tmp_path):
  path = clips.stamped(tmp_path / name, 300, **SEEKS[name])
  free = Budget(path, None)
  with container.opened(path, free) as (file, stream):
    line = container.timeline(path, file, stream, free)
  indices = np.array([0, 11, 12, 13, 100, 101, 180, 299])
  keep = functools.partial(video._picture, prepare=np.asarray, budget=free)
  slow, found, seconds = container.sequentially(path, indices, keep, free)
  fast = container.by_seeking(path, line, indices, keep, free)
  assert found == len(line.times) == 300
  assert seconds == pytest.approx(line.duration) == pytest.approx(12.0)
  if name in ("closed.mp4", "vp9.webm"):
    assert container.cost(line.keys, indices) < 80
    assert fast is not None
  for index in indices.tolist() if fast else ():
    np.testing.assert_array_equal(fast[index], slow[index])
  clip = video.read(path, lambda duration, total: indices)
  assert clips.numbers(clip.frames) == indices.tolist()


def test_seeking_gives_up_where_frames_do_not_come_at_their_times(tmp_path):
  path = clips.stamped(tmp_path / "closed.mp4", 300, **SEEKS["closed.mp4"])
  free = Budget(path, None)
  with container.opened(path, free) as (file, stream):
    line = container.timeline(path, file, stream, free)
  keep = functools.partial(video._picture, prepare=np.asarray, budget=free)
  for times in (line.times + 1, np.delete(line.times, 4)):
    wrong = line._replace(times=times)
    assert container.by_seeking(path, wrong, np.array([6]), keep, free) is None
