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
  """8 videos' pages alone are too large; 4 are compiled, and fit."""
  c = pairs.get_config("tiny")
  c.candidates.max_new_tokens = 512
  devices = jax.devices()[:1]
  plan, ask = captions.abstract(c, "candidates", devices)
  most = captions.lengths(c, plan, ask)
  room = rooms.plan(most, plan.mesh, 8, ask)
  held = footprint.pools(plan, room)
  usable = footprint.held([*held, plan.variables]) - 1
  eight, four = captions.tries(c, "candidates", devices, usable)
  assert (eight.batch_size, eight.room) == (8, room)
  assert not eight.fits and not eight.need.peaks
  assert captions.verdict(eight).endswith("does not fit, without compiling")
  assert (four.batch_size, four.room.rows) == (4, 40) and four.fits
  need = four.need
  assert set(need.peaks) == {"look", "read prompts", "read tails", "fill"}
  assert need.peak > need.weights + need.prompts + need.own
  out = Console(file=io.StringIO(), width=80)
  out.print(captions.table(four))
  shown = out.file.getvalue()
  for words in ("weights", "keys and values of prompts", "at once, to fill"):
    assert words in shown
  assert "placing.batch_size=4, 40 captions at once" in captions.verdict(four)
  row = captions.as_dict("v5e:1", four)
  assert row["need"]["peak"] == need.peak and row["room"]["rows"] == 40
