"""A frame rule that stands for a decoder that does not come back."""

import time

from synpo_jax.data import video


class Endless(video.FrameRule):
  """Never says which frames it wants."""

  def __call__(self, duration, total):
    """Sleeps far beyond every limit of a test."""
    time.sleep(600)
