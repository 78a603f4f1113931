"""What the model of a run makes of its pairs, before it trains."""

import json

import jax
import numpy as np
import pytest

from synpo_jax import preflight
from synpo_jax.models import sharding
from synpo_jax.planning import pairs_worth
from synpo_jax.training import job, pair_logps
from synpo_jax.weights import loading
from tests.support import clips, run_config


@pytest.fixture(scope="module")
def c(tmp_path_factory):
  """A random captioner of one layer, and four rows, of one clip or none."""
  folder = tmp_path_factory.mktemp("worth")
  clips.stamped(folder / "a.mp4", 10, rate=5)
  c = run_config.get_config(folder)
  c.model.arch.llm.num_hidden_layers = 1
  c.model.arch.visual_encoder.update(num_hidden_layers=2, kept_ratio=1.0)
  c.model.kept_ratio = None
  c.world.clips = 0
  c.lora.rank = 0
  c.data.update(
    pairs=str(folder / "rows.jsonl"),
    videos=str(folder),
    min_score_gap=1.0,
    prefix_buckets=128,
    response_buckets=(16,),
    frame_buckets=(8,),
    batch_size=8,
    accumulation=1,
  )
  texts = "a red circle", "blue squares move left and right", "a", "the box"
  rows = [
    dict(
      question="What is there?",
      chosen=one,
      rejected=other,
      chosen_score=5.0,
      rejected_score=4.5 if number == 3 else 1.0,
      **({"video": "a.mp4"} if number != 1 else {}),
    )
    for number, (one, other) in enumerate(
      zip(texts, (*texts[1:], texts[0]), strict=True)
    )
  ]
  write(c, rows)
  return c, rows


def write(c, rows):
  with open(c.data.pairs, "w") as file:
    file.writelines(json.dumps(row) + "\n" for row in rows)


def test_the_model_ranks_the_pairs_that_the_run_would_use(c, tmp_path, capsys):
  """Against log-probs of a run's own batches, token by token."""
  c, rows = c
  assert preflight.show_worth(c, tmp_path, 9) == []
  report = json.loads((tmp_path / "pairs_report.json").read_text())
  ranking = report["ranking"]
  assert (report["pairs"], ranking["pairs"]) == (3, 3)  # one is below the gap
  assert report["length"]["unit"] == "tokens"
  said = capsys.readouterr().out
  assert f"Next: {report['next']}" in said and "of 3 right by S" in said
  assert report["next"] in (tmp_path / "pairs_report.html").read_text()
  S = geometric_means(c, tmp_path)
  margins = np.quantile(S[:, 0] - S[:, 1], (0.1, 0.5, 0.9))
  np.testing.assert_allclose(ranking["margins"], margins, atol=2e-4)
  assert ranking["accuracy"] == round(float(np.mean(S[:, 0] > S[:, 1])), 4)
  assert not (tmp_path / "cache").exists()


def geometric_means(c, folder):
  """S [3, 2] of the rows in use, of the batches of a run."""
  opened = job.open_model(c)
  data = job.read_data(
    c, opened, captions=2, epochs=1, cache=str(folder / "x"), workers=0
  )
  scoring = pair_logps.make_scoring(**c.step, mesh=opened.mesh)
  variables = loading.load_variables(opened.model, "", opened.mesh, c.seed)
  found = np.zeros((3, 2))
  score = jax.jit(
    lambda held, batch: pair_logps.pair_logps(
      opened.model, held, batch, scoring
    )
  )
  for index in range(len(data.batches)):
    batch = data.batches[index]
    placed = sharding.put_batch(batch, opened.mesh).micro(0)
    logps = score(variables, placed)
    for place, row in enumerate(batch.micro(0).row):
      for caption in (0, 1) if row >= 0 else ():
        mask = batch.micro(0).response_mask[place, caption]
        own = np.float64(logps[place, caption])[mask]
        found[row, caption] = np.exp(own.mean())
  return found


def test_what_cannot_be_ranked_is_said(c, tmp_path):
  c = c[0].copy_and_resolve_references()
  c.world.update(clips=4, folder=c.data.videos)
  assert preflight.show_worth(c, tmp_path, 1) == [
    f"worth: --worth: {c.data.videos}: the run's own world makes it; give "
    "--worth=0, or start the run once"
  ]
  assert preflight.show_worth(c, tmp_path, 0) == []
  c.data.pairs = "no.jsonl"
  (fault,) = preflight.show_worth(c, tmp_path, 0)
  assert "no.jsonl" in fault and "\n" not in fault
  with pytest.raises(OSError, match="no.jsonl"):
    pairs_worth.look(c, 0)
