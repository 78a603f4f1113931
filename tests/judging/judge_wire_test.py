"""What a server may not do to us: flood, lead away, have secrets written."""

import gzip
import json
import random
import tracemalloc
import zlib

import pytest

from synpo_jax.endpoints import paid, responses, secrets
from tests.support.asking import GOOD, after, question, run
from tests.support.judge_server import BOMB, FLOOD, chat, serve


@pytest.mark.parametrize("bad", [BOMB, FLOOD])
def test_a_reply_is_read_up_to_a_limit_as_it_comes(tmp_path, bad):
  with serve(after([bad], GOOD)) as (url, log):
    tracemalloc.start()
    answers, _ = run(tmp_path, url, [question("a")])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
  assert answers["a"].value == 4 and len(log.bodies) == 2
  assert peak < 4 * responses.LARGEST  # the bomb is 134 MB


def test_what_was_too_long_is_said(tmp_path):
  with serve(after([], BOMB)) as (url, log):
    answers, _ = run(tmp_path, url, [question("a")], tries=1)
  assert "more than 4,194,304 bytes" in answers["a"].missing
  assert log.headers[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "deflate"])
def test_a_packed_reply_is_read(tmp_path, name):
  """Also one that repeats what lies far behind, up to the formats' 32 KiB."""
  pack = zlib.compress if name == "deflate" else gzip.compress
  far = random.Random(0).randbytes(12_000).hex()
  body = json.dumps(json.loads(GOOD[2]) | {"padding": far + far})
  said = (200, {"Content-Encoding": name}, pack(body.encode()))
  with serve(after([], said)) as (url, _):
    answers, _ = run(tmp_path, url, [question("a")], tries=1)
  assert answers["a"].value == 4


PACKED_OTHERWISE = zlib.compress(GOOD[2].encode())


@pytest.mark.parametrize(
  ("name", "body"),
  [
    *((name, GOOD[2]) for name in ("gzip", "br", "zstd", "gzip, gzip")),
    *((name, PACKED_OTHERWISE) for name in ("gzip", "x-gzip")),
  ],
)
def test_what_cannot_be_unpacked_is_tried_again(tmp_path, name, body):
  said = (200, {"Content-Encoding": name}, body)
  with serve(after([said], GOOD)) as (url, log):
    answers, _ = run(tmp_path, url, [question("a")])
  assert answers["a"].value == 4 and len(log.bodies) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_elsewhere(tmp_path, status):
  with serve(after([], GOOD)) as (other, seen):
    place = f"{other}/chat/completions?key=sk-other"
    with serve(after([], (status, {"Location": place}, ""))) as (url, log):
      with pytest.raises(ValueError, match="redirects to") as stop:
        run(tmp_path, url, [question(f"q{i}") for i in range(9)], concurrency=1)
  origin = other.removesuffix("/v1")
  assert origin in str(stop.value) and "sk-other" not in str(stop.value)
  assert len(log.bodies) == 1 and not seen.bodies
  assert "\n" not in str(stop.value)


@pytest.mark.parametrize("place", ["http://[broken/", "//other.example/v1"])
def test_an_odd_redirect_is_refused_in_one_line(tmp_path, place):
  with serve(after([], (307, {"Location": place}, ""))) as (url, _):
    with pytest.raises(ValueError, match="redirects to"):
      run(tmp_path, url, [question("a")])


def test_a_redirect_on_the_same_server_is_followed(tmp_path):
  moved = (307, {"Location": "/v2/chat/completions"}, "")
  with serve(after([moved], GOOD)) as (url, log):
    answers, _ = run(tmp_path, url, [question("a")])
  assert answers["a"].value == 4 and len(log.bodies) == 2


@pytest.mark.parametrize("status", [429, 403, 400])
@pytest.mark.parametrize("field", ["code", "type"])
def test_an_account_with_nothing_left_ends_at_once(tmp_path, status, field):
  error = {"message": "You exceeded your current quota"}
  error[field] = "insufficient_quota"
  said = (status, {}, json.dumps({"error": error}))
  with serve(after([GOOD], said)) as (url, log):
    requests = [question(f"q{i}") for i in range(300)]
    with pytest.raises(ValueError, match="nothing left to spend") as stop:
      run(tmp_path, url, requests, concurrency=1)
  assert len(log.bodies) == 2 and "\n" not in str(stop.value)


SECRETS = ("sk-secret", "hunter2")
ECHO = "you are user:hunter2 with sk-secret; {} {}"


def inside(url):
  """The address with a user and a password."""
  return url.replace("//", "//user:hunter2@")


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_no_secret_is_shown_or_written(tmp_path, status):
  basic = "dXNlcjpodW50ZXIy"  # user:hunter2 in base 64
  words = ECHO.format(basic, "so: ") + '{"score": 4}'
  said = chat(words)
  if status != 200:
    said = (status, {}, json.dumps({"error": {"message": words}}))
  shown = ""
  with serve(after([], said)) as (url, log):
    requests = [question(f"q{i}", schema=None) for i in range(9)]
    try:
      answers, _ = run(tmp_path, inside(url), requests, tries=1)
      shown = str(answers)
    except ValueError as error:
      shown = str(error)
  assert status != 200 or answers["q0"].value == 4
  written = (tmp_path / "cache.jsonl").read_text()
  assert status != 200 or "***" in written
  for secret in (*SECRETS, basic):
    assert secret not in shown + written


def test_nobody_there_does_not_show_the_password(tmp_path):
  with pytest.raises(ValueError, match="127.0.0.1:9/v1 left") as stop:
    run(tmp_path, "http://user:hunter2@127.0.0.1:9/v1", [question("a")] * 9)
  assert "hunter2" not in str(stop.value)


def test_a_reply_kept_by_an_earlier_version_is_cut_too(tmp_path):
  with serve(after([], chat('sk-secret {"reason": "sk-secret"}'))) as (url, _):
    run(tmp_path, url, [question("a")], asks=1, key="other-key")
    path = tmp_path / "cache.jsonl"
    assert "sk-secret" in path.read_text()
    seen = []
    read = lambda text: seen.append(text)  # noqa: E731
    run(tmp_path, url, [question("a", parse=read)], asks=1)
  assert seen and "sk-secret" not in seen[0]


def test_addresses_are_shown_without_what_opens_them():
  url = "https://user:p%40ss@host:8/v1?api-key=abcdef#x"
  assert secrets.shown(url) == "https://host:8/v1"
  held = secrets.held(url, "sk-1234567")
  assert {"p@ss", "p%40ss", "abcdef", "sk-1234567"} <= set(held)
  assert secrets.held("http://h/v1", "") == ()


def test_a_short_key_cuts_no_holes_into_replies():
  text = '{"score": 4, "reason": "kept"}'
  for key in ("k", "4", "e", "none", "EMPTY"):
    assert secrets.cut(text, secrets.held("http://h/v1", key)) == text
  assert secrets.cut("pass: hunter2.", ("hunter2",)) == "pass: ***."


def test_the_cost_of_all_runs_is_in_the_cache(tmp_path):
  with serve(after([], GOOD)) as (url, _):
    for names in ("a", "b"), ("b", "c"):
      run(tmp_path, url, [question(name) for name in names])
  spent = {"calls": 3, "prompt_tokens": 30, "completion_tokens": 15}
  assert paid.total(tmp_path / "cache.jsonl") == spent
  assert paid.total(tmp_path / "none.jsonl")["calls"] == 0
