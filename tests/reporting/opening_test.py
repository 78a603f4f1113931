"""The page of a run opens with clips, and claims in colours."""

import json

import numpy as np
import pytest

from synpo_jax.reporting import opening
from synpo_jax.world import rendering, staging, telling
from synpo_jax.world.scene import write_scenes


@pytest.fixture
def workdir(tmp_path):
  scene = staging.sample(3)
  (tmp_path / "clips").mkdir()
  rendering.encode(tmp_path / "clips" / f"{scene.video}.mp4", scene)
  write_scenes(str(tmp_path / "scenes.jsonl"), [scene])
  heldout = dict(videos=str(tmp_path), scenes=str(tmp_path / "scenes.jsonl"))
  (tmp_path / "config.json").write_text(json.dumps({"heldout": heldout}))
  true = telling.tell(scene.facts, np.random.default_rng(0))
  name = f"clips/{scene.video}.mp4"
  captions = {"before": "A <b>large</b> dog barks.", "after": true}
  for when, text in captions.items():
    path = tmp_path / f"{when}_captions.json"
    path.write_text(json.dumps({name: text}))
  return tmp_path


def test_frames_both_captions_and_what_is_missing(workdir):
  html = opening.section(workdir)
  assert html.count('<img src="data:image/png;base64,') == 1
  before, after = html.split("<b>after</b>")
  assert 'class="wrong"' in before and "&lt;b&gt;" in before
  assert 'class="right"' in after and 'class="wrong"' not in after
  assert " </span>" not in html  # the line under a claim ends with it
  assert "missing: nothing" in after and "missing: nothing" not in before


def test_without_captions_the_page_opens_as_it_did(workdir):
  (workdir / "after_captions.json").unlink()
  assert opening.section(workdir) == ""
