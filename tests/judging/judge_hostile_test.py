"""Servers that answer in every way but the one that was asked for."""

import email.utils
import json
import time

import pytest

from synpo_jax.endpoints import responses
from synpo_jax.judging import judge
from tests.support.asking import GOOD, after, question, run
from tests.support.judge_server import RESET, TORN, serve


def saying(message, **fields):
  """A response whose message, or anything around it, is of another kind."""
  body = {"choices": [{"message": message}]} | fields
  return 200, {}, json.dumps(body)


@pytest.mark.parametrize(
  "odd",
  [
    (200, {"Content-Type": "text/html"}, GOOD[2]),
    saying(
      {"content": [{"type": "text", "text": '{"score"'}, {"text": ":4}"}]}
    ),
    saying({"content": '{"score": 4}'}, usage={"prompt_tokens": "many"}),
    saying({"content": '{"score": 4}'}, usage=["none"]),
    saying({"content": '{"score": 4}'}, usage={"prompt_tokens": 1e400}),
    saying({"content": '{"score": "4"}'}),
    saying({"content": '{"score": 1, "score": 2} So: {"score": 4}'}),
  ],
)
def test_what_can_be_understood_is(tmp_path, odd):
  with serve(after([], odd)) as (url, log):
    answers, usage = run(tmp_path, url, [question("a")])
  assert answers["a"].value == 4 and len(log.bodies) == 1
  assert usage.calls == 1 and usage.completion_tokens in (0, 5)


@pytest.mark.parametrize(
  "bad",
  [
    TORN,
    RESET,
    (200, {}, "[" * 200_000),
    (200, {}, " " * (responses.LARGEST + 1)),
    (200, {}, "null"),
    (200, {}, '{"error": {"message": "overloaded"}}'),
    (200, {}, 'data: {"choices": []}\n\ndata: [DONE]\n\n'),
    (204, {}, ""),
    saying(None),
    saying({}),
    saying({"content": 4}),
    saying({"content": {"score": 4}}),
    saying({"content": ["4"]}),
    (429, {"Retry-After": email.utils.formatdate(0.0)}, ""),
    (429, {"Retry-After": "-5"}, ""),
    (429, {"Retry-After": "soon"}, ""),
    (529, {}, "overloaded"),
  ],
)
def test_what_cannot_be_understood_is_tried_again(tmp_path, bad):
  with serve(after([bad], GOOD)) as (url, log):
    answers, _ = run(tmp_path, url, [question("a")])
  assert answers["a"].value == 4 and len(log.bodies) == 2


@pytest.mark.parametrize("nothing", [None, "", []])
def test_a_reply_without_words_is_asked_for_again(tmp_path, nothing):
  empty = saying({"content": nothing, "refusal": "no"})
  with serve(after([empty], GOOD)) as (url, log):
    answers, _ = run(tmp_path, url, [question("a")])
  assert answers["a"].value == 4
  assert "no JSON object" in log.bodies[1]["messages"][-1]["content"]


@pytest.mark.parametrize(
  "key", ["sk-secret\nsk-two", "sk secret", "sk-secret\u00e9", "sk\0secret"]
)
def test_a_key_that_no_header_can_carry_is_refused_unseen(tmp_path, key):
  with serve(after([], GOOD)) as (url, log):
    with pytest.raises(ValueError, match="judge.key or API_KEY") as stop:
      run(tmp_path, url, [question("a")], key=key)
    answers, _ = run(tmp_path, url, [question("a")], key="sk-secret\n")
  assert "secret" not in str(stop.value) and len(log.bodies) == 1
  assert answers["a"].value == 4
  assert log.headers[0]["authorization"] == "Bearer sk-secret"


@pytest.mark.parametrize(
  "address",
  ["localhost:8000/v1", "http://h:port/v1", "http://", "http://a b", "sk-key"],
)
def test_what_is_no_address_is_said_in_one_line(tmp_path, address):
  with pytest.raises(ValueError, match="API_URL is no address") as stop:
    run(tmp_path, address, [question("a")])
  assert "sk-key" not in str(stop.value)


@pytest.mark.parametrize("usegmt", [True, False])
def test_a_date_without_a_zone_is_of_greenwich(monkeypatch, usegmt):
  monkeypatch.setenv("TZ", "America/New_York")
  time.tzset()
  try:
    date = email.utils.formatdate(time.time() + 60, usegmt=usegmt)
    wait = responses.retry_after({"retry-after": date})
  finally:
    monkeypatch.undo()
    time.tzset()
  assert 55 < wait <= 60


def test_a_reason_does_not_repeat_a_long_reply(tmp_path):
  huge = saying({"content": json.dumps({"score": "x" * 100_000})})
  with serve(after([], huge)) as (url, log):
    answers, _ = run(tmp_path, url, [question("a")])
  assert len(answers["a"].missing) < 300
  assert max(len(json.dumps(body)) for body in log.bodies) < 1500


def test_retry_after_may_be_a_date(tmp_path):
  def behave(n, body):
    date = email.utils.formatdate(time.time() + 2, usegmt=True)
    return GOOD if n else (503, {"Retry-After": date}, "")

  with serve(behave) as (url, log):
    run(tmp_path, url, [question("a")])
  assert log.times[1] - log.times[0] >= 0.9  # dates have whole seconds


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405])
def test_what_no_request_can_mend_stops_the_run(tmp_path, status):
  said = (status, {}, '{"error": {"message": "not with sk-secret"}}')
  with serve(after([GOOD], said)) as (url, log):
    requests = [question(f"q{i}") for i in range(9)]
    with pytest.raises(ValueError, match=f"status {status}") as stop:
      run(tmp_path, url, requests, concurrency=1)
  assert len(log.bodies) == 2
  assert "sk-secret" not in str(stop.value) and "\n" not in str(stop.value)


def test_what_is_under_way_when_a_run_stops_is_not_paid_twice(tmp_path):
  refusing = True

  def behave(n, body):
    if "q1." in body["messages"][0]["content"]:
      return (401, {}, "") if refusing else GOOD
    time.sleep(0.5)
    return GOOD

  requests = [question(f"q{i}", schema=None) for i in range(4)]
  with serve(behave) as (url, log):
    with pytest.raises(ValueError, match="status 401"):
      run(tmp_path, url, requests, concurrency=3)
    assert len(log.bodies) == 3
    refusing = False
    _, usage = run(tmp_path, url, requests)
  assert len(log.bodies) == 5 and usage == judge.Usage(2, 20, 10, 2)


def test_a_server_that_refuses_everything_stops_the_run(tmp_path):
  said = (400, {}, '{"error": {"message": "max_tokens is not known"}}')
  with serve(after([], said)) as (url, log):
    requests = [question(f"q{i}") for i in range(99)]
    with pytest.raises(ValueError, match="refused 8 requests.*limit_name"):
      run(tmp_path, url, requests, concurrency=1)
  assert len(log.bodies) == 8


def test_a_reason_never_shows_the_key(tmp_path):
  said = (500, {}, '{"error": {"message": "upstream: Bearer sk-secret"}}')
  with serve(after([], said)) as (url, log):
    answers, _ = run(tmp_path, url, [question("a")], tries=1)
  assert answers["a"].missing.endswith("Bearer ***")
