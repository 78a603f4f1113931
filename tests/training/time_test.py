"""What a run says about the time that its videos take."""

from types import SimpleNamespace

from synpo_jax.training import job


class Frames(list):
  """Stands for chunks.Frames: seconds from one frame to the next."""

  def seconds(self, number):
    """Of a video."""
    return self[number]


def told(sections, spans, stamped=False):
  frames = Frames(spans)
  config = SimpleNamespace(
    tower=object(),
    decoder=SimpleNamespace(mrope_sections=sections),
    connector=SimpleNamespace(seconds_per_step=1.0),
    frames_per_step=2,
    stamped=stamped,
  )
  return job.describe_time(config, frames)


def test_a_model_that_counts_time_says_what_it_counts():
  assert told((16, 24, 24), [0.5, 4.0, 1.25]) == (
    "each 2 frames count as 1 s in every clip (seconds_per_step of "
    "config.json); in these they span 1 to 8 s"
  )
  assert told((), [0.5, 4.0]) is None
  assert told((16, 24, 24), [0.5], stamped=True) is None  # the prompt tells
