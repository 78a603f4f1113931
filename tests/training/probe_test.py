"""Language through training: what is measured, and on what."""

import json

import pytest
from PIL import Image

from synpo_jax.training import heldout, job, metrics
from synpo_jax.training import probe as language
from tests.support import run_config

pytestmark = pytest.mark.slow


class Recorder(metrics.NoLog):
  """What trackers would get."""

  def __init__(self):
    self.rows, self.shown = [], []

  def track(self, row):
    self.rows.append(row)

  def show(self, step, rows):
    self.shown.append((step, rows))


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
  """A run of seconds before its first update, and its config."""
  folder = tmp_path_factory.mktemp("language")
  c = run_config.get_config(folder)
  c.mesh.data = -1
  c.data.batch_size = 8
  c.every.evaluate = 5
  c.language.captions = 2
  return folder, c, job.prepare(c, folder / "run")


def test_reference_logp_is_that_of_the_chosen_captions(setting):
  """Asked about the pairs' own chosen captions, it gives their log-prob."""
  folder, c, ready = setting
  c.language.references = c.heldout.pairs
  (folder / "run" / "eval.jsonl").write_text('{"step": 0, "a": 1}\n')
  c.log.samples = 1
  log = Recorder()
  probe = language.make_probe(ready, c, folder / "run", 0, log)
  row = probe(0, ready.state.trained)
  ((step, (shown,)),) = log.shown
  assert step == 0 and shown["before"] == shown["now"] and log.rows == [row]
  with Image.open(shown["frames"]) as strip:
    assert strip.size[1] == 48
  pairs = heldout.score_pairs(
    ready.steps.evaluate,
    ready.state.trained,
    ready.frozen,
    ready.heldout,
    ready.mesh,
  )
  assert row["reference_logp"] == pytest.approx(pairs["chosen_logp"], abs=1e-4)
  assert 0 <= row["repetition"] <= 1 and 0 < row["distinct_1"] <= 1
  assert "text_logp" not in row
  assert row["heldout/accuracy"] == pytest.approx(pairs["accuracy"])
  name = f"videos of language.references={c.language.references}"
  assert ready.inputs[name] == ready.inputs["heldout.videos"]
  assert metrics.read_rows(folder / "run" / "eval.jsonl") == [row]


def test_text_is_read_without_a_video_and_old_rows_are_cut(setting, capsys):
  folder, c, ready = setting
  texts = folder / "texts.jsonl"
  rows = [{"question": "Describe.", "chosen": "the red circle moves"}] * 2
  rows += [{"question": "Describe.", "chosen": "long " * 5000}]
  lines = [json.dumps(row | {"id": str(i)}) for i, row in enumerate(rows)]
  texts.write_text("\n".join(lines) + "\n")
  c.language.update(texts=str(texts), references="", captions=0)
  c.log.samples = 0
  path = folder / "run" / "eval.jsonl"
  path.write_text('{"step": 3, "a": 1}\n{"step": 9, "a": 2}\n')
  probe = language.make_probe(ready, c, folder / "run", 5, metrics.NoLog())
  told = f"{path}: 2 of the 2 rows up to update 5 are not there"
  said = capsys.readouterr()
  assert told in said.err
  assert "text_logp: 3 rows read, " in said.out
  (lost,) = (folder / "run" / "dropped.jsonl").read_text().splitlines()
  assert json.loads(lost) == {
    "file": str(texts),
    "row": 3,
    "id": "2",
    "reason": "caption too long",
  }
  row = probe(7, ready.state.trained)
  assert row["text_logp"] < 0 and row["reference_logp"] < 0
  assert [r["step"] for r in metrics.read_rows(path)] == [3, 7]
  told = (folder / "run" / "references.jsonl").read_text().splitlines()
  scenes = {json.loads(line)["video"] for line in told}
  held = {pair.video for pair in ready.heldout.pairs}
  assert scenes == held


def test_nothing_to_measure_is_an_error(setting):
  folder, c, ready = setting
  c.language.update(texts="", references="", captions=0)
  c.heldout.scenes = ""
  none = ready._replace(heldout=None)
  with pytest.raises(ValueError, match="every.evaluate is set, but"):
    language.make_probe(none, c, folder / "run", 0, metrics.NoLog())
  c.every.evaluate = 0
  assert (
    language.make_probe(ready, c, folder / "run", 0, metrics.NoLog()) is None
  )
