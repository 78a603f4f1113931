"""What preflight shows of rows is what a run would make of them."""

import json

import numpy as np
import pytest

from configs import vdc
from synpo_jax.planning import first_rows
from tests.support import clips


@pytest.fixture
def c(tmp_path):
  """The tiny recipe on three rows of one clip, the first below the gap."""
  c = vdc.get_config()
  clips.stamped(tmp_path / "a.mp4", 10, rate=5)
  c.data.update(
    pairs=str(tmp_path / "rows.jsonl"),
    videos=str(tmp_path),
    cache=str(tmp_path / "cache"),
    min_score_gap=1.0,
  )
  text = dict(question="Describe <b> the video.", rejected="a blue square")
  rows = [
    text | dict(id="near", video="a.mp4", chosen="a dog"),
    text | dict(id="far", video="a.mp4", chosen="a red circle moves"),
    text | dict(id="text", chosen="no video here"),
  ]
  for row, score in zip(rows, (4, 5, 6), strict=True):
    row |= dict(chosen_score=score, rejected_score=3.5)
  (tmp_path / "rows.jsonl").write_text(
    "".join(json.dumps(row) + "\n" for row in rows)
  )
  return c


def test_rows_are_shown_as_the_model_will_see_them(c, tmp_path):
  far, alone = first_rows.look(c)
  assert (far.id, alone.id) == ("far", "text")
  assert "".join(far.captions[0]).strip().startswith("a red circle moves")
  assert "".join(far.captions[1]).strip().startswith("a blue square")
  prompt = "".join(far.prompt)
  assert "Describe <b> the video." in prompt and far.visual > 0
  marks = [piece for piece in far.prompt if piece.endswith(" visual]")]
  assert sum(int(mark[1:].split()[0]) for mark in marks) == far.visual
  assert far.frames.shape[1:] == (64, 64, 3) and far.frames.dtype == np.uint8
  assert alone.frames is None and alone.visual == 0
  count = len(far.captions[0])
  assert f"captions of {count} and " in first_rows.describe(far)
  sizes = [
    row.visual
    + sum(not piece.endswith(" visual]") for piece in row.prompt)
    + sum(map(len, row.captions))
    for row in (far, alone)
  ]
  each = f"take {sum(sizes) / 2:.0f} positions on average, about "
  told = first_rows.share([far, alone], 4 * sum(sizes))
  assert told.endswith(f"{each}8.0 of them in a row of {4 * sum(sizes)}")
  told = f"data.packing={sizes[0] - 1}: .* pair far take {sizes[0]} positions"
  with pytest.raises(ValueError, match=told):
    first_rows.share([alone, far], sizes[0] - 1)
  assert not (tmp_path / "cache").exists()


def test_the_page_colours_what_is_supervised_and_escapes_the_rest(c):
  shown = first_rows.look(c)
  page = first_rows.page(shown)
  tokens = sum(len(caption) for row in shown for caption in row.captions)
  assert page.count('<span class="s">') == tokens
  assert page.count("data:image/png;base64,") == 1
  assert "<b> the" not in page and "<script" not in page


def test_no_row_to_show_is_said(c):
  c.data.min_score_gap = 9.0
  with pytest.raises(ValueError, match="none of its first 100 rows"):
    first_rows.look(c)
