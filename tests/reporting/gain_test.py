"""What a run says of itself: true whichever way the figures came out."""

import io
import json

from rich.console import Console

from synpo_jax.reporting import gain, result
from synpo_jax.world import scores
from tests.support.hand_scene import SCENE, TOLD


def rows(f1s, **others):
  """Scores of clips, all of one value but those given."""
  return {
    str(clip): dict.fromkeys(scores.KEYS, 0.5) | {"f1": f1} | others
    for clip, f1 in enumerate(f1s)
  }


BEFORE = rows([0.60, 0.62, 0.61, 0.61])
AFTER = rows([0.69, 0.71, 0.72, 0.68], precision=0.6, hallucination=0.4)
FORCED = rows([0.62, 0.64, 0.62, 0.64])


def test_a_gain_above_its_controls():
  controls = {"equal length": BEFORE, "forced beginning": FORCED}
  assert gain.from_rows(BEFORE, AFTER, controls) == (
    "F1 of claims 0.61 -> 0.70 (+0.09 ± 0.01), precision up, hallucination "
    "down; the best control, forced beginning, gives +0.02 ± 0.00, training "
    "+0.07 ± 0.01 more."
  )


def test_a_gain_that_a_control_explains():
  said = gain.from_rows(BEFORE, AFTER, {"forced beginning": AFTER})
  assert "+0.09 ± 0.01), precision up" in said
  assert said.endswith("+0.09 ± 0.01, as much as training within noise.")
  more = rows([0.8, 0.8, 0.81, 0.81])
  said = gain.from_rows(BEFORE, AFTER, {"constant sentence": more})
  assert said.endswith(" which is more than training.")


def test_no_gain_and_a_loss():
  same = rows([0.50, 0.72, 0.71, 0.53])
  said = gain.from_rows(BEFORE, same, {})
  assert "no change that can be told from noise" in said
  assert "precision unchanged within noise" in said
  assert said.endswith("; no controls were made.")
  said = gain.from_rows(AFTER, BEFORE, {"equal length": AFTER})
  assert "0.70 -> 0.61 (-0.09 ± 0.01), precision down" in said
  assert "hallucination up" in said and "more than training" in said
  said = gain.from_rows(rows([0.6]), rows([0.9]), {})
  assert "(+0.30 one clip alone), no change that can be told" in said


def told():
  wrong = TOLD.replace("pans to the right", "zooms in")
  short = TOLD.partition(" Finally")[0]
  return gain.Captions(
    {"hand": SCENE},
    {"clips/hand.mp4": wrong},
    {"clips/hand.mp4": short},
    {"constant sentence": {"clips/hand.mp4": wrong}},
  )


def test_clips_in_colours_with_what_is_missing():
  out = io.StringIO()
  console = Console(file=out, force_terminal=True, width=200)
  console.print(*gain.clips(told()))
  text = out.getvalue()
  assert "\x1b[31mzooms" in text and "\x1b[32mring" in text
  before, after = text.split("after: ")
  assert "missing: nothing" in before
  assert "missing: the star turns green" in after


def test_the_table_and_what_is_kept(tmp_path, capsys):
  before, after = (
    scores.summary(scores.rows(texts, told().scenes))
    for texts in (told().before, told().after)
  )
  result.show(before | {"accuracy": 0.5}, after | {"accuracy": 0.6}, tmp_path)
  assert "constant" not in capsys.readouterr().out
  result.show(before, after, tmp_path, told())
  shown = capsys.readouterr().out
  assert "F1 of claims" in shown and "constant sentence" in shown
  kept = json.loads((tmp_path / "controls.json").read_text())
  assert kept["constant sentence"]["f1"] == before["f1"]
  assert set(kept["constant sentence"]) == {
    name for key in scores.KEYS for name in (key, f"{key}_se")
  }
  assert json.loads((tmp_path / "after.json").read_text()) == after


def test_cells_have_their_errors():
  assert result.cell({"f1": 0.5, "f1_se": 0.01}, "f1") == "0.500 ± 0.010"
  assert result.cell({"f1": 0.5, "f1_se": None}, "f1") == "0.500"
  assert result.cell({}, "f1") == ""
