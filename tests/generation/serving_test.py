"""What a served captioner cannot be asked, and what is written down of it."""

import json

import pytest

from synpo_jax.generation import serving, shown
from tests.support.captioner_server import ask, how, shot


def test_pictures_keep_their_shape():
  assert shown.smaller(shot("a").frames[0], 48).shape == (24, 48, 3)
  assert shown.smaller(shot("a").frames[0], 12).shape == (6, 12, 3)


@pytest.mark.parametrize(
  ("asked", "settings", "said"),
  [
    (dict(contrast_weight=0.5), {}, r"x\.contrast_weight=0.5: .*logits"),
    (dict(contrast_cutoff=0.1), {}, r"x\.contrast_cutoff=0.1: .*logits"),
    ({}, dict(takes="seed,n"), r"x\.top_k=32: serving.takes"),
    (dict(top_p=1.5), {}, "top_p=1.5"),
    (dict(temperature=-1.0), {}, "temperature=-1.0"),
    (dict(candidates=0), {}, r"x\.candidates=0"),
    (dict(max_new_tokens=0), {}, r"x\.max_new_tokens=0"),
    ({}, dict(model=""), r"captioner: no model; set serving\.model"),
    ({}, dict(send="file"), "serving.send='file': choose one of images, fr"),
    ({}, dict(takes="top_k,min_p"), "serving.takes: 'min_p' is none of top_k"),
    ({}, dict(extra={"seed": 1}), "serving.extra: seed has a setting of its"),
    ({}, dict(extra={"max_tokens": 1}), "serving.extra: max_tokens has a"),
    ({}, dict(concurrency=0), "serving.concurrency: give a number of 1"),
  ],
)
def test_what_a_served_model_cannot_be_asked_is_said(asked, settings, said):
  with pytest.raises(ValueError, match=said) as stop:
    serving.check("http://h/v1", how(**settings), ask(**asked), "x")
  assert "\n" not in str(stop.value)


def test_an_address_and_a_key_that_are_none_are_refused_unseen(monkeypatch):
  with pytest.raises(ValueError, match="captioner: model.endpoint is no addr"):
    serving.check("localhost:8000", how(), ask(), "x")
  monkeypatch.setenv("CAPTIONER_API_KEY", "sk secret")
  with pytest.raises(ValueError, match="CAPTIONER_API_KEY holds") as stop:
    serving.check("http://h/v1", how(), ask(), "x")
  assert "secret" not in str(stop.value)


def test_what_is_written_down_opens_nothing():
  found = serving.identity("https://u:hunter2@h/v1?key=abcdefgh", how())
  assert found["endpoint"] == "https://h/v1" and found["model"] == "served"
  assert "hunter2" not in json.dumps(found)
