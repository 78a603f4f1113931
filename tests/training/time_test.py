"""What a run says about the time that its videos take."""

from types import SimpleNamespace

from synpo_jax.training import announcing


class Frames(list):
  """Stands for chunks.Frames: seconds from one frame to the next."""

  def seconds(self, number):
    """Of a video."""
    return self[number]


def told(positions_per_second, spans):
  frames = Frames(spans)
  config = SimpleNamespace(
    tower=object(),
    connector=SimpleNamespace(
      seconds_per_step=1.0, positions_per_second=positions_per_second
    ),
    frames_per_step=2,
  )
  return announcing.describe_time(config, frames)


def test_a_model_that_counts_time_says_what_it_counts():
  assert told(2, [0.5, 4.0, 1.25]) == (
    "each 2 frames count as 1 s in every clip (seconds_per_step of "
    "config.json); in these they span 1 to 8 s"
  )
  assert told(0, [0.5, 4.0]) is None  # a step is a position, or told in words
