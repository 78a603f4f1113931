"""A question to a judge, and a call of it."""

from synpo_jax.judging import judge, replies
from tests.support.judge_server import chat

GOOD = chat('{"score": 4}')
SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}}


def question(name, text=None, **changes):
  messages = ({"role": "user", "content": text or f"Judge {name}."},)
  request = judge.Request(name, messages, score, SCHEMA, 64, "test-1")
  return request._replace(**changes)


def run(tmp_path, url, requests, **changes):
  """Answers by id, and the usage; settings as a test wants them."""
  answers = {}
  settings = dict(
    cache=tmp_path / "cache.jsonl",
    concurrency=4,
    asks=3,
    temperature=0.0,
    base_url=url,
    model="m",
    key="sk-secret",
    schema="json_schema",
    timeout=60.0,
    tries=4,
    first_wait=0.01,
    longest_wait=2.0,
    stop_after=50,
    limit_name="max_tokens",
    extra={},
  )
  note = lambda answer, usage: answers.update({answer.id: answer})  # noqa: E731
  usage = judge.ask(requests, note, **settings | changes)
  return answers, usage


def after(first, then):
  """Behaves as `first` says for as many requests, then answers `then`."""
  return lambda n, body: first[n] if n < len(first) else then


def score(text):
  """The last object's score, 0 to 5."""
  found = replies.objects(text)[-1]
  if "score" not in found:
    raise replies.Unreadable("no score in it")
  return replies.whole_number(found["score"], 0, 5, "the score")
