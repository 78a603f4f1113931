import pytest

from synpo_jax.judging import judge
from tests.support.asking import GOOD, SCHEMA, after, question, run
from tests.support.judge_server import DRIP, HANG, RESET, chat, serve


@pytest.mark.parametrize(
  "bad",
  [
    (429, {"Retry-After": "0"}, "{}"),
    (500, {}, "it broke"),
    (503, {}, ""),
    (200, {}, '{"choices": [{"mess'),
    (200, {}, "<html>busy</html>"),
    (200, {}, '{"choices": []}'),
    RESET,
  ],
)
def test_what_passes_is_tried_again(tmp_path, bad):
  with serve(after([bad, bad], GOOD)) as (url, log):
    answers, usage = run(tmp_path, url, [question("a")])
  assert answers["a"] == judge.Answer("a", 4, None)
  assert len(log.bodies) == 3
  assert usage == judge.Usage(1, 10, 5, 0)


@pytest.mark.parametrize("slow", [HANG, DRIP])
def test_a_hanging_server_costs_its_time_out_and_no_more(tmp_path, slow):
  with serve(after([slow], GOOD)) as (url, log):
    answers, _ = run(tmp_path, url, [question("a")], timeout=1.0)
  assert log.times[1] - log.times[0] < 10.0  # the drip goes on for that long
  assert answers["a"].value == 4


def test_retry_after_is_honoured_by_everybody(tmp_path):
  slow_down = (429, {"Retry-After": "1"}, "{}")
  behave = after([GOOD, slow_down], GOOD)
  with serve(behave) as (url, log):
    requests = [question(f"q{i}") for i in range(4)]
    answers, _ = run(tmp_path, url, requests, concurrency=1)
  assert [answers[f"q{i}"].value for i in range(4)] == [4] * 4
  assert log.times[2] - log.times[1] >= 1.0


def test_a_wait_too_long_to_sit_out_makes_the_answer_unavailable(tmp_path):
  with serve(after([], (429, {"Retry-After": "900"}, "{}"))) as (url, log):
    answers, _ = run(tmp_path, url, [question("a", schema=None)])
  assert answers["a"].value is None
  assert answers["a"].missing.startswith("unavailable: asked to wait 900 s")
  assert len(log.bodies) == 1


def test_back_off_grows_from_try_to_try(tmp_path):
  with serve(after([], (500, {}, ""))) as (url, log):
    request = question("a", schema=None)
    answers, _ = run(tmp_path, url, [request], first_wait=0.1, tries=4)
  waits = [b - a for a, b in zip(log.times, log.times[1:], strict=False)]
  assert len(waits) == 3
  for wait, full in zip(waits, [0.1, 0.2, 0.4], strict=True):
    assert wait >= full / 2
  assert answers["a"].missing.startswith("unavailable: status 500")


@pytest.mark.parametrize(
  ("reply", "reason"),
  [
    ('{"score": 7}', "outside 0 to 5"),
    ('{"score": -1}', "outside 0 to 5"),
    ('{"score": 2.5}', "not a whole number"),
    ('{"score": true}', "not a number"),
    ('{"score": "high"}', "not a number"),
    ('{"score": NaN}', "no JSON value"),
    ('{"verdict": 3}', "no score"),
    ('{"reason": "so far so goo', "ends inside"),
    ('{"score": 4', "ends inside"),
    ("I would give it a 4.", "no JSON object"),
    ("", "no JSON object"),
  ],
)
def test_a_wrong_reply_is_asked_again_with_the_reason(tmp_path, reply, reason):
  with serve(after([chat(reply)], GOOD)) as (url, log):
    answers, usage = run(tmp_path, url, [question("a")])
  assert answers["a"].value == 4
  assert usage.calls == 2
  last = log.bodies[1]["messages"][-1]
  assert last["role"] == "user" and reason in last["content"]


def test_after_the_last_ask_the_answer_is_missing(tmp_path):
  with serve(after([], chat('{"score": 9}'))) as (url, log):
    answers, _ = run(tmp_path, url, [question("a")], asks=3)
  assert answers["a"].value is None
  assert answers["a"].missing.startswith("unusable: the score is 9")
  assert len(log.bodies) == 3


def test_a_reply_cut_by_its_limit_gets_twice_the_room(tmp_path):
  status, headers, text = chat('{"reason": "long')
  cut = (status, headers, text.replace('"stop"', '"length"'))
  with serve(after([cut], GOOD)) as (url, log):
    answers, _ = run(tmp_path, url, [question("a")])
  assert answers["a"].value == 4
  assert [body["max_tokens"] for body in log.bodies] == [64, 128]


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_server_without_schemas_is_found_out_once(tmp_path, status):
  def behave(n, body):
    if "response_format" in body:
      return status, {}, '{"error": {"message": "response_format: unknown"}}'
    return GOOD

  with serve(behave) as (url, log):
    requests = [question(f"q{i}") for i in range(12)]
    answers, usage = run(tmp_path, url, requests)
  assert {a.value for a in answers.values()} == {4}
  shaped = [body for body in log.bodies if "response_format" in body]
  assert len(shaped) == 1 and len(log.bodies) == 13
  assert shaped[0]["response_format"]["json_schema"]["schema"] == SCHEMA
  assert usage.calls == 12


def test_schemas_in_the_words_of_another_server(tmp_path):
  with serve(after([], GOOD)) as (url, log):
    run(tmp_path, url, [question("a")], schema="json_object")
    run(tmp_path / "b", url, [question("a")], schema="none")
  shape = {"type": "json_object", "schema": SCHEMA}
  assert log.bodies[0]["response_format"] == shape
  assert "response_format" not in log.bodies[1]
  with pytest.raises(ValueError, match="schema='yes'"):
    run(tmp_path, url, [question("a")], schema="yes")


def test_a_refused_request_is_missing_and_the_schema_stays(tmp_path):
  def behave(n, body):
    if "q1." in body["messages"][0]["content"]:
      return 400, {}, '{"error": {"message": "too long"}}'
    return GOOD

  with serve(behave) as (url, log):
    requests = [question(f"q{i}") for i in range(3)]
    answers, _ = run(tmp_path, url, requests, concurrency=1)
  assert answers["q1"].missing.startswith("refused: status 400")
  assert answers["q2"].value == 4
  assert "response_format" in log.bodies[-1]


def test_a_wrong_key_stops_the_run_and_is_not_shown(tmp_path):
  said = (401, {}, '{"error": {"message": "no such key: sk-secret"}}')
  with serve(after([], said)) as (url, log):
    with pytest.raises(ValueError, match="status 401") as stop:
      run(tmp_path, url, [question(f"q{i}") for i in range(9)], concurrency=1)
  assert "sk-secret" not in str(stop.value)
  assert len(log.bodies) == 1
  assert log.headers[0]["authorization"] == "Bearer sk-secret"
  assert "sk-secret" not in (tmp_path / "cache.jsonl").read_text()


def test_nobody_there_stops_the_run_soon(tmp_path):
  requests = [question(f"q{i}") for i in range(100)]
  with pytest.raises(ValueError, match="run again later"):
    run(tmp_path, "http://127.0.0.1:9/v1", requests)


def test_no_more_than_the_bound_at_once(tmp_path):
  requests = [question(f"q{i}", schema=None) for i in range(12)]
  with serve(after([], GOOD), delay=0.1) as (url, log):
    run(tmp_path, url, requests, concurrency=3)
  assert 2 <= log.busiest <= 3  # a busy machine may not bring all at once


def test_no_question_is_paid_for_twice(tmp_path):
  requests = [question("a"), question("b", "Judge a."), question("c")]
  with serve(after([], GOOD), delay=0.02) as (url, log):
    first, spent = run(tmp_path, url, requests)
    again, reused = run(tmp_path, url, requests)
  assert first == again and len(log.bodies) == 2
  assert (spent.calls, spent.cached) == (2, 1)
  assert reused == judge.Usage(0, 0, 0, 3)


def test_a_wrong_reply_is_not_paid_for_twice_either(tmp_path):
  with serve(after([], chat("nonsense"))) as (url, log):
    for _ in range(2):
      answers, _ = run(tmp_path, url, [question("a")], asks=2)
      assert answers["a"].missing.startswith("unusable")
  assert len(log.bodies) == 2


@pytest.mark.parametrize(
  "change",
  [
    dict(model="other"),
    dict(temperature=0.5),
    dict(extra={"top_k": 1}),
  ],
)
def test_other_settings_are_another_question(tmp_path, change):
  with serve(after([], GOOD)) as (url, log):
    run(tmp_path, url, [question("a")])
    run(tmp_path, url, [question("a")], **change)
  assert len(log.bodies) == 2


def test_another_prompt_version_is_another_question(tmp_path):
  with serve(after([], GOOD)) as (url, log):
    run(tmp_path, url, [question("a")])
    run(tmp_path, url, [question("a", version="test-2")])
  assert len(log.bodies) == 2


def test_settings_come_from_the_environment(tmp_path, monkeypatch):
  with serve(after([], GOOD)) as (url, log):
    monkeypatch.setenv("API_URL", url + "/chat/completions")
    monkeypatch.setenv("API_KEY", "sk-environment")
    monkeypatch.setenv("API_MODEL", "named-there")
    answers, _ = run(tmp_path, "", [question("a")], model="", key="")
  assert answers["a"].value == 4
  assert log.bodies[0]["model"] == "named-there"
  assert log.headers[0]["authorization"] == "Bearer sk-environment"


def test_without_a_model_the_way_out_is_named(tmp_path, monkeypatch):
  for name in ("API_MODEL", "OPENAI_MODEL"):
    monkeypatch.delenv(name, raising=False)
  with pytest.raises(ValueError, match="judge.model or API_MODEL"):
    run(tmp_path, "http://127.0.0.1:9", [question("a")], model="")
