"""What a served captioner cannot be asked, and what is written down of it."""

import json

import pytest

from configs import caption as recipe
from configs import eval_vdc, pairs
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


@pytest.mark.parametrize(
  ("key", "endpoint", "send", "how", "said"),
  [
    ("model.dtype", "http://h/v1", "images", {}, "with model.endpoint; leave"),
    ("placing.batch_size", "http://h/v1", "images", {}, "with model.endpoint"),
    ("placing.batch_size", "http://h/v1", "images", dict(here=True), None),
    ("frames.fixed", "http://h/v1", "images", {}, None),
    ("frames.fixed", "http://h/v1", "video", {}, "with model.endpoint"),
    ("serving.side", "http://h/v1", "video", dict(parts=True), None),
    ("serving.side", "", "images", {}, "without model.endpoint; set that"),
    ("placing.batch_size", "", "images", {}, None),
  ],
)
def test_what_is_given_and_read_by_nobody_is_refused(
  key, endpoint, send, how, said
):
  """Even where it is what the config has."""
  c = recipe.get_config()
  c.model.endpoint, c.serving.send = endpoint, send
  if said is None:
    serving.check_given(c, {key: 7}, **how)
    return
  with pytest.raises(ValueError, match=f"{key}=7: of no use {said}"):
    serving.check_given(c, {key: 7}, **how)


def test_every_config_has_what_a_server_takes_no_notice_of_as_it_should():
  configs = [recipe.get_config(), pairs.get_config(), eval_vdc.get_config()]
  for c in configs:
    serving.check_unused(c.model.to_dict())


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
