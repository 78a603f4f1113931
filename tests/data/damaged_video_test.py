"""Damaged videos of many containers: frames or a named error, and an end.

Hypothesis draws the damage. A failure prints the smallest that shows it, and
how to draw it again.
"""

import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from synpo_jax.data import video
from synpo_jax.data.limits import Limits
from tests.support import clips, draws

RULE = video.FrameRule(min_frames=2, max_frames=4, frames_per_second=1.0)
LIMITS = Limits(seconds=5.0, frames=2000, pixels=10**6, bytes=10**6)
CASES = 150  # of each of seven containers

FILES = {
  "a.mp4": {},
  "index_first.mp4": dict(options={"movflags": "faststart"}),
  "a.mkv": dict(codec_options={"g": "4"}),
  "a.webm": dict(codec="libvpx"),
  "a.avi": dict(codec="mpeg4"),
  "a.ts": {},
  "a.gif": dict(codec="gif", pixels="rgb8"),
}

# Places and lengths are shares of the file, so that they suit all of them.
SHARES = st.integers(0, 999).map(lambda n: n / 1000)
EDITS = st.one_of(
  st.tuples(st.just("flip"), SHARES, st.integers(0, 7)),
  st.tuples(st.just("head"), st.integers(0, 199), st.integers(0, 255)),
  st.tuples(st.just("cut"), SHARES, st.just(0)),
  st.tuples(st.just("swap"), SHARES, SHARES),
  st.tuples(st.just("clear"), SHARES, st.integers(1, 64)),
  st.tuples(st.just("fill"), SHARES, st.integers(1, 64)),
)


def damaged(data: bytes, edits) -> bytes:
  """The file after some edits, one after the other."""
  data = bytearray(data)
  for kind, place, value in edits:
    size = len(data)
    at = int(place * size) if kind != "head" else min(place, size - 1)
    if kind == "flip":
      data[at] ^= 1 << value
    elif kind == "head":
      data[at] = value
    elif kind == "cut":
      data = data[: at + 1]
    elif kind == "swap":
      other, length = int(value * size), min(64, size // 4)
      first, second = data[at : at + length], data[other : other + length]
      data[at : at + length], data[other : other + length] = second, first
    else:
      filling = b"\0" if kind == "clear" else b"\xff"
      data[at : at + value] = filling * len(data[at : at + value])
  return bytes(data)


@pytest.mark.parametrize("name", FILES)
def test_damage_ends_in_frames_or_in_a_named_error(name, tmp_path):
  settings = {"size": (24, 32), "rate": 10, **FILES[name]}
  whole = clips.stamped(tmp_path / name, 12, **settings).read_bytes()
  path = tmp_path / f"damaged_{name}"
  ends = {"frames": 0, "error": 0}

  @draws.most(CASES)
  @hypothesis.given(st.lists(EDITS, min_size=1, max_size=4))
  def check(edits):
    path.write_bytes(damaged(whole, edits))
    start = time.monotonic()
    try:
      clip = video.read(path, RULE, None, LIMITS)
    except ValueError as error:
      assert str(error).startswith(f"{path}: "), error
      assert "\n" not in str(error)
      ends["error"] += 1
    else:
      assert clip.frames.dtype == np.uint8 and clip.frames.ndim == 4
      assert len(clip.frames) == len(clip.indices) > 0
      assert np.isfinite(clip.duration) and clip.total > 0
      ends["frames"] += 1
    assert time.monotonic() - start < 2 * LIMITS.seconds

  check()
  drawn = sum(ends.values())  # at each save too few to be sure of both kinds
  assert min(ends.values()) > 0 or drawn < CASES, ends
