"""Which frames a corrupted video shows: in slow words, for many drawn ones."""

import pytest

from synpo_jax.data import corruption, video

RULE = video.FrameRule(min_frames=8, max_frames=16, frames_per_second=0.5)
DURATION, TOTAL = 24.0, 121
WHOLE = RULE(DURATION, TOTAL).tolist()


def drawn(kind, count=40):
  """(frames, clock) of so many videos, all corrupted in one way."""
  for number in range(count):
    given = (f"v{number}.mp4", 3, (kind,), RULE, DURATION, TOTAL)
    found = corruption.corrupt(*given)
    again = corruption.corrupt(*given)
    assert found.kind == again.kind == kind
    assert found.frames.tolist() == again.frames.tolist()
    yield found.frames.tolist(), found.clock.tolist()


def test_two_of_four_clips_change_places():
  seen, thirds = set(), len(WHOLE) // 4
  parts = [WHOLE[n : n + thirds] for n in range(0, len(WHOLE), thirds)]
  for frames, clock in drawn("swap"):
    assert clock == WHOLE  # their times are those of an unharmed video
    moved = [frames[n : n + thirds] for n in range(0, len(WHOLE), thirds)]
    wrong = [n for n in range(4) if moved[n] != parts[n]]
    one, other = wrong
    assert moved[one] == parts[other] and moved[other] == parts[one]
    seen.add((one, other))
  assert len(seen) == 6  # any two


def test_half_of_it_is_reversed():
  starts = set()
  for frames, clock in drawn("reverse"):
    assert clock == WHOLE
    wrong = [n for n in range(len(WHOLE)) if frames[n] != WHOLE[n]]
    start, stop = wrong[0], wrong[-1] + 1
    assert stop - start == len(WHOLE) // 2
    assert frames[start:stop] == WHOLE[start:stop][::-1]
    starts.add(start)
  assert len(starts) == len(WHOLE) // 2 + 1


def test_a_crop_is_half_of_it_told_as_if_it_were_all():
  starts = set()
  for frames, clock in drawn("crop"):
    assert clock == RULE(DURATION * 60 / 121, 60).tolist()
    (start,) = {a - b for a, b in zip(frames, clock, strict=True)}
    assert 0 <= start and frames[-1] < TOTAL
    starts.add(start)
  assert len(starts) > 20


def test_one_frame_of_four_stays():
  assert {tuple(frames) for frames, _ in drawn("downsample")} == {
    tuple(WHOLE[start::4]) for start in range(4)
  }
  assert all(frames == clock for frames, clock in drawn("downsample", 3))


def test_kind_follows_from_seed_and_name():
  def kinds(seed):
    every = tuple(corruption.KINDS)
    given = (seed, every, RULE, DURATION, TOTAL)
    return [corruption.corrupt(f"v{n}", *given).kind for n in range(40)]

  assert kinds(1) == kinds(1) != kinds(2)
  assert {*kinds(1)} == {*corruption.KINDS}


@pytest.mark.parametrize("total", [2, 3, 5])
@pytest.mark.parametrize("kind", sorted(corruption.KINDS))
def test_the_shortest_videos_are_corrupted_too(kind, total):
  found = corruption.corrupt("v", 0, (kind,), RULE, 0.2, total)
  assert len(found.frames) == len(found.clock) > 0
  assert 0 <= found.frames.min() and found.frames.max() < total
  assert found.frames.tolist() != RULE(0.2, total).tolist()


def test_what_cannot_be_corrupted_is_said():
  with pytest.raises(ValueError, match="v.mp4: a single frame has no order"):
    corruption.corrupt("v.mp4", 0, ("swap",), RULE, 0.1, 1)
  with pytest.raises(ValueError, match="kinds: 'blur' is none of swap, rev"):
    corruption.check(("swap", "blur"))
  with pytest.raises(ValueError, match="kinds: name some of swap"):
    corruption.check(())
