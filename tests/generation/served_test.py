"""Captions by a model behind an endpoint, whatever its server does."""

import base64
import io
import time

import pytest
from PIL import Image

from synpo_jax.data import prompts
from synpo_jax.generation import served, shots
from tests.support import captioner_server as captioner
from tests.support.captioner_server import answer, ask, honest, how, shot
from tests.support.judge_server import DRIP, FLOOD, RESET, TORN, serve


def write(tmp_path, url, wanted, asked=None, fingerprint=None, **changes):
  """({id: texts}, {id: why there are none}, the writer)."""
  lost = {}
  writer = served.Writer(
    *(url, how(**changes), tmp_path / "answers.jsonl"),
    *(lost.__setitem__, fingerprint),
  )
  found = {id_: texts for id_, _, texts in writer.write(wanted, asked or ask())}
  return found, lost, writer


def first(behaviour, then=honest):
  """Does as told at the first request, then as it should."""
  return lambda n, body: behaviour if n == 0 else then(n, body)


def test_a_request_holds_frames_question_and_sampling(tmp_path):
  with serve(honest) as (url, log):
    found, lost, _ = write(tmp_path, url, [shot("a", 3)], ask(candidates=4))
  [body] = log.bodies
  *parts, last = body.pop("messages")[0]["content"]
  assert last == {"type": "text", "text": "What is there?"}
  assert [part["type"] for part in parts] == ["image_url"] * 3
  head, code = parts[0]["image_url"]["url"].split(",")
  picture = Image.open(io.BytesIO(base64.b64decode(code)))
  assert head == "data:image/jpeg;base64" and picture.size == (48, 24)
  assert 0 <= body.pop("seed") < 2**31
  assert body == dict(
    model="served", temperature=0.9, top_p=0.95, top_k=32, n=4, max_tokens=40
  )
  texts = found["a"]
  assert len({text.last for text in texts}) == 4 and not lost
  assert sum(text.tokens for text in texts) == 28
  assert texts[0].first == texts[0].last
  assert shots.origin(texts) == {
    "served": {"endpoint": url, "model": "served", "system_fingerprint": "fp-1"}
  }


def test_what_the_api_has_not_is_not_sent(tmp_path):
  asked = ask(candidates=3, top_k=0)
  with serve(honest) as (url, log):
    takes = dict(takes="", limit_name="max_completion_tokens")
    found, _, _ = write(tmp_path, url, [shot("a")], asked, **takes)
    write(tmp_path / "k", url, [shot("a")], asked, takes="top_k")
    write(tmp_path / "0", url, [shot("a")], ask(temperature=0.0, candidates=2))
  known = {"model", "messages", "temperature", "top_p"}
  assert set(log.bodies[0]) == known | {"max_completion_tokens"}
  assert len(found["a"]) == 3 and len(log.bodies) == 3 + 3 + 2
  assert shots.origin(found["a"])["seed"] is None
  assert log.bodies[3]["top_k"] == -1  # all, as engines spell it
  assert set(log.bodies[6]) == known | {"max_tokens", "seed"}  # greedy


def test_a_video_is_sent_as_the_file_and_a_part_of_it_as_frames(tmp_path):
  file = tmp_path / "clip.webm"
  file.write_bytes(b"a video, they say")
  wanted = [shot("a", file=file), shot("b", part=1)]
  with serve(honest) as (url, log):
    write(tmp_path, url, wanted, send="video", concurrency=1)
    write(tmp_path, url, [shot("b", part=2)], send="frames")
  whole, part, other = (
    body["messages"][0]["content"][0]["video_url"]["url"] for body in log.bodies
  )
  code = base64.b64encode(file.read_bytes()).decode()
  assert whole == f"data:video/webm;base64,{code}"
  head, *frames = part.split(",")
  assert head == "data:video/jpeg;base64" and len(frames) == 2
  assert other == part
  assert Image.open(io.BytesIO(base64.b64decode(frames[1]))).size == (48, 24)


def test_the_second_look_is_that_of_the_recipe(tmp_path):
  asked = ask(candidates=2, retrospective=True, caution=True)
  with serve(honest) as (url, log):
    found, _, _ = write(tmp_path, url, [shot("a")], asked)
  texts = found["a"]
  again = {captioner.question(body) for body in log.bodies[1:]}
  assert again == {
    prompts.retrospective(text.first, question="What is there?", caution=True)
    for text in texts
  }
  parts = [body["messages"][0]["content"][:-1] for body in log.bodies]
  assert parts[0] == parts[1] == parts[2]
  assert {text.last for text in texts} == {
    captioner.words(body) for body in log.bodies[1:]
  }


@pytest.mark.parametrize(
  "bad",
  [
    (429, {"Retry-After": "0"}, "{}"),
    (500, {}, "it broke"),
    (200, {}, '{"choices": [{"mess'),
    (200, {}, "<html>busy</html>"),
    (200, {}, '{"choices": []}'),
    answer({"text": "A dog."}),
    answer(""),
    answer(None),
    answer(" \n"),
    answer("<think>Hm. A dog?"),
    answer("dog " * 700),
    (200, {}, " " * (1 << 23)),
    TORN,
    RESET,
    FLOOD,
    DRIP,
  ],
)
def test_what_is_no_caption_is_asked_for_again(tmp_path, bad):
  with serve(first(bad)) as (url, log):
    limit = 1.0 if bad is DRIP else 30.0
    found, lost, _ = write(tmp_path, url, [shot("a")], timeout=limit)
  assert len(log.bodies) == 2 and not lost
  assert [text.last for text in found["a"]] == [captioner.words(log.bodies[1])]


def test_thoughts_are_no_part_of_a_caption(tmp_path):
  with serve(first(answer("<think>Cat? No.</think>\nA dog."))) as (url, _):
    found, _, _ = write(tmp_path, url, [shot("a")])
  assert found["a"][0].last == "A dog."


def test_a_caption_cut_at_its_limit_is_one_and_no_words_are_none(tmp_path):
  def behave(n, body):
    if len(body["messages"][0]["content"]) == 3:  # two frames
      return answer("A dog and a", reason="length")
    return answer("", reason="length")

  with serve(behave) as (url, log):
    wanted = [shot("a"), shot("b", 1)]
    found, lost, _ = write(tmp_path, url, wanted)
  assert found["a"][0].last == "A dog and a" and found.keys() == {"a"}
  said = "the answer is empty, cut at max_new_tokens=40; allow for more"
  assert lost == {"b": f"b: unusable: {said}"}
  assert len(log.bodies) == 1 + 3
  assert len({body["seed"] for body in log.bodies}) == 4


def test_a_server_that_gives_fewer_is_asked_for_the_rest(tmp_path):
  with serve(lambda n, body: answer(captioner.words(body), "")) as (url, log):
    found, _, _ = write(tmp_path, url, [shot("a")], ask(candidates=3))
  assert [body.get("n") for body in log.bodies] == [3, 2, None]
  assert len({text.last for text in found["a"]}) == 3


def test_shots_come_in_order_and_the_lost_are_told(tmp_path):
  def behave(n, body):
    frames = len(body["messages"][0]["content"]) - 1
    time.sleep(0.2 if frames == 1 else 0.0)
    if frames == 3:
      return 400, {}, '{"error": {"message": "too long, says sk-secret"}}'
    return (503, {}, "") if frames == 4 else honest(n, body)

  wanted = [shot(f"{n}", n) for n in (1, 2, 3, 4, 5)]
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("CAPTIONER_API_KEY", "sk-secret")
    patch.setenv("API_KEY", "sk-of-the-judge")
    with serve(behave) as (url, log):
      found, lost, _ = write(tmp_path, url, wanted)
  assert list(found) == ["1", "2", "5"]
  assert lost["3"].startswith("3: refused: status 400")
  assert lost["3"].endswith("too long, says ***")
  assert lost["4"].startswith("4: unavailable: status 503")
  assert {h["authorization"] for h in log.headers} == {"Bearer sk-secret"}


def test_no_more_than_the_bound_at_once_and_shots_wait_for_room(tmp_path):
  taken = []

  def wanted():
    for n in range(20):
      taken.append(n)
      yield shot(f"{n}")

  with serve(honest, delay=0.05) as (url, log):
    writer = served.Writer(url, how(concurrency=2), tmp_path / "a", print)
    ahead = [len(taken) for _ in writer.write(wanted(), ask())]
  assert log.busiest <= 2 and len(log.bodies) == 20
  assert ahead[0] <= 2 * served.AHEAD and len(ahead) == 20


def test_nothing_is_paid_for_twice(tmp_path):
  wanted = [shot("a"), shot("b")]
  asked = ask(candidates=2, retrospective=True)
  prices = {"prompt": 1000.0, "completion": 1e4}
  with serve(honest) as (url, log):
    once, _, _ = write(tmp_path, url, wanted[:1], asked)
    both, _, writer = write(tmp_path, url, wanted, asked, prices=prices)
    assert len(log.bodies) == 6 and both["a"] == once["a"]
  spent = "3 calls, 300 + 28 tokens, 3 cached, 0.58 spent"
  assert writer.cost() == spent
  with serve(honest) as (elsewhere, log):
    write(tmp_path, elsewhere, wanted, asked)
    write(tmp_path, elsewhere, wanted[:1], ask(seed=4))
  assert len(log.bodies) == 1


def test_an_error_ends_all_and_keeps_what_was_under_way(tmp_path):
  def behave(n, body):
    if len(body["messages"][0]["content"]) == 2:
      return 401, {}, ""
    time.sleep(0.3)
    return honest(n, body)

  wanted = [shot("a"), shot("b"), shot("c", 1), *map(shot, "defghijk")]
  with serve(behave) as (url, log):
    start = time.monotonic()
    with pytest.raises(ValueError, match="^captioner: .*status 401.*serving.m"):
      write(tmp_path, url, wanted)
    assert time.monotonic() - start < served.GRACE
  kept = (tmp_path / "answers.jsonl").read_text().splitlines()
  assert len(kept) == len(log.bodies) - 1 < 8


def test_no_redirect_leads_elsewhere_and_nobody_there_is_said(tmp_path):
  with serve(honest) as (other, seen):
    place = f"{other}/chat/completions"
    with serve(lambda *_: (307, {"Location": place}, "")) as (url, _):
      with pytest.raises(ValueError, match="captioner: .* redirects to"):
        write(tmp_path, url, [shot("a")])
  assert not seen.bodies
  with pytest.raises(ValueError, match="captioner: .*run again later") as stop:
    gone = "http://user:hunter2@127.0.0.1:9/v1"
    write(tmp_path / "b", gone, map(shot, "abcdef"))
  assert "hunter2" not in str(stop.value)


def test_another_system_behind_the_endpoint_is_refused(tmp_path):
  def behave(n, body):
    return answer(captioner.words(body), fingerprint="" if n else "fp-1")

  for name, fingerprint in (("a", None), ("b", "fp-0")):
    with serve(behave) as (url, _):
      with pytest.raises(ValueError, match="system_fingerprint") as stop:
        wanted = [shot("a"), shot("b")]
        how = dict(fingerprint=fingerprint, concurrency=1)
        write(tmp_path / name, url, wanted, **how)
    assert "fp-" in str(stop.value) and "\n" not in str(stop.value)
  with serve(behave) as (url, _):
    both = ask(candidates=2, retrospective=True)
    found, _, _ = write(
      *(tmp_path / "c", url, [shot("a")], both), one_fingerprint=False
    )
  origin = shots.origin(found["a"])["served"]
  assert origin["system_fingerprint"] == "fp-1"


def test_what_is_too_large_is_a_fault_of_its_shot(tmp_path):
  file = tmp_path / "clip.mp4"
  file.write_bytes(bytes(4000))
  for shape in (shot("a"), shot("a", file=file)):
    with serve(honest) as (url, log):
      send = "images" if shape.file is None else "video"
      found, lost, _ = write(
        *(tmp_path, url, [shape]), send=send, most_bytes=900
      )
    assert not found and "serving.most_bytes=900" in lost["a"]
    assert not log.bodies
