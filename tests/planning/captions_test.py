"""The captioning of a pair run, planned: what is compiled, and what is said."""

import io

import jax
import pytest
from rich.console import Console

from configs import pairs
from synpo_jax.generation import footprint, rooms
from synpo_jax.planning import captions

pytestmark = pytest.mark.slow


def test_videos_are_halved_until_their_captions_fit():
  """16 videos' pages alone are too large; 8 are compiled, and fit."""
  c = pairs.get_config("tiny")
  c.placing.batch_size = 16
  c.candidates.update(candidates=4, max_new_tokens=2048)
  devices = jax.devices()[:1]
  plan, ask = captions.abstract(c, "candidates", devices)
  most = captions.lengths(c, plan, ask)
  room = rooms.plan(most, plan.mesh, 16, ask)
  held = footprint.pools(plan, room)
  usable = footprint.held([*held, plan.variables]) - 1
  more, less = captions.tries(c, "candidates", devices, usable)
  assert (more.batch_size, more.room) == (16, room)
  assert not more.fits and not more.need.peaks
  assert captions.verdict(more).endswith("does not fit, without compiling")
  assert (less.batch_size, less.room.rows) == (8, 32) and less.fits
  need = less.need
  assert set(need.peaks) == {"look", "read prompts", "read tails", "fill"}
  assert need.peak > need.weights + need.prompts + need.own
  out = Console(file=io.StringIO(), width=80)
  out.print(captions.table(less))
  shown = out.file.getvalue()
  for words in ("weights", "keys and values of prompts", "at once, to fill"):
    assert words in shown
  assert "placing.batch_size=8, 32 captions at once" in captions.verdict(less)
  row = captions.as_dict("v5e:1", less)
  assert row["need"]["peak"] == need.peak and row["room"]["rows"] == 32
