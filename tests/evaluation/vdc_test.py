"""VDC and VDD: protocol, arithmetic, failures."""

import json

import pytest

from synpo_jax.evaluation import judge_prompts, vdc, vdd
from synpo_jax.evaluation.items import Item, choose_prompt
from synpo_jax.judging import judge
from tests.support.judge_server import chat, serve
from tests.support.scripted_judge import scripted

OURS = judge_prompts.load("ours", "vdc")


def write_questions(folder):
  """A tiny sample in the published layout, its oddities included."""
  rows = {
    "camera": [
      {
        "v1": [qa("How does the camera move?", "it pans"), qa("Where?", "left")]
      },
      {"v2": [qa("Is it steady?", "yes")]},
      {"v1": [qa("How fast?", "slowly")]},  # an id that comes twice
    ],
    "short": [{"v1": [qa("What is it?", "a square"), qa("", "empty")]}],
  }
  for category, lines in rows.items():
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / f"{category}.jsonl").write_text(text)
  return vdc.read_questions(folder, tuple(rows))


def qa(question, answer):
  return {"question": question, "answer": answer, "category": "object"}


def judged(questions, answers):
  items = [
    vdc.Captioned(category, video, f"Caption of {video}.", rows)
    for category, videos in questions.items()
    for video, rows in videos.items()
  ]
  ask, asked = scripted(answers)
  rows, usage = vdc.judge_captions(
    items, OURS, ask, answer_tokens=256, compare_tokens=256
  )
  return rows, usage, asked


def test_vdcscore_by_hand(tmp_path):
  """v1 camera: yes 5, no 1, yes 3; v2 camera: no 0; v1 short: yes 4."""
  questions = write_questions(tmp_path)
  verdicts = {
    "it pans": ("yes", 5),
    "left": ("no", 1),
    "slowly": ("yes", 3),
    "yes": ("no", 0),
    "a square": ("yes", 4),
  }

  def answers(request):
    text = request.messages[-1]["content"]
    if request.version.startswith("vdc answer"):
      return f"answer to {request.id}"
    gold = text.split("Key: ")[1].split("\n")[0]
    pred, score = verdicts[gold]
    return json.dumps({"pred": pred, "score": score})

  rows, usage, asked = judged(questions, answers)
  got = vdc.summarise(rows)
  camera, short = (got["categories"][c] for c in ("camera", "short"))
  assert camera["accuracy"] == pytest.approx((2 / 3 + 0) / 2)
  assert camera["score"] == pytest.approx((3 + 0) / 2)
  assert short["accuracy"] == 1.0 and short["failed"] == 1
  assert short["accuracy_if_failures_are_wrong"] == 0.5
  assert got["accuracy"] == pytest.approx((1 / 3 + 1) / 2)
  assert got["score"] == pytest.approx((1.5 + 4) / 2)
  assert (got["judged"], got["failed"], usage.calls) == (5, 1, 10)
  (v1,) = [r for r in rows if r["id"] == "camera/v1"]
  assert v1["questions"][1]["answer"] == "answer to camera/v1/1"
  # The first call sees the caption and no key, the second the other way.
  first, second = asked
  assert all("Caption of" in r.messages[-1]["content"] for r in first)
  assert not any("it pans" in r.messages[-1]["content"] for r in first)
  assert not any("Caption of" in r.messages[-1]["content"] for r in second)


def test_failures_are_counted_and_never_become_scores(tmp_path):
  questions = write_questions(tmp_path)

  def answers(request):
    if request.id == "camera/v1/0":
      return None  # the first call fails: no second one
    if request.version.startswith("vdc answer"):
      return "left"
    if request.id == "camera/v2/0":
      return "I cannot tell."
    if request.id == "short/v1/0":
      return '{"pred": "yes", "score": 9}'
    return "{'pred': 'Yes', 'score': '4'}"

  rows, _, asked = judged(questions, answers)
  assert "camera/v1/0" not in [request.id for request in asked[1]]
  by_id = {row["id"]: row for row in rows}
  v1, v2 = by_id["camera/v1"], by_id["camera/v2"]
  assert (v1["accuracy"], v1["score"], v1["failed"]) == (1.0, 4.0, 1)
  assert v1["accuracy_if_failures_are_wrong"] == pytest.approx(2 / 3)
  assert "status 500" in v1["questions"][0]["failure"]
  assert v2["accuracy"] is None and "no JSON" in v2["questions"][0]["failure"]
  got = vdc.summarise(rows)
  assert got["failed"] == 4 and got["videos_without_judgement"] == 2
  assert got["categories"]["camera"]["accuracy"] == 1.0
  assert got["categories"]["short"]["accuracy"] is None
  assert got["accuracy"] == 1.0


def test_faulty_question_files_are_named(tmp_path):
  (tmp_path / "camera.jsonl").write_text('{"v": [{"question": "a"}]}\nno\n')
  with pytest.raises(ValueError, match=r"line 1: .*\n.*line 2: "):
    vdc.read_questions(tmp_path, ("camera",))
  with pytest.raises(FileNotFoundError, match="short.jsonl"):
    vdc.read_questions(tmp_path, ("short",))


LINES = {
  '{"v": [{"question": "a"}]}': "line 2: video 'v', question 1 has no text in"
  " 'answer'",
  '{"v": [{"question": null, "answer": "b"}]}': "line 2: .* in 'question'",
  '{"v": {"question": "a"}}': "line 2: video 'v' has no list of questions",
  '{"v": ["a"]}': "line 2: video 'v', question 1 is not an object",
  '["v"]': "line 2: not {video: ",
  '{"v": [': "line 2: not JSON",
}


@pytest.mark.parametrize("line", LINES)
def test_what_is_wrong_with_a_question_is_said(line, tmp_path):
  good = json.dumps({"u": [qa("How many?", 3)]})
  (tmp_path / "camera.jsonl").write_text(f"{good}\n{line}\n")
  with pytest.raises(ValueError, match=LINES[line]) as error:
    vdc.read_questions(tmp_path, ("camera",))
  assert "\n" not in str(error.value)


def test_vdd_mean_and_failures(tmp_path):
  path = tmp_path / "vdd.jsonl"
  rows = [
    {"video_name": f"v{i}", "question": "Q", "answer": f"R{i}"}
    for i in range(4)
  ]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  replies_by_video = {"v0": '{"score": 4}', "v1": "{'score': 1}", "v2": None}
  ask, _ = scripted(lambda r: replies_by_video.get(r.id, "five"))
  captions = {f"v{i}": f"C{i}" for i in range(4)}
  references = vdd.read_references(path)
  rows, _ = vdd.judge_captions(references, captions, OURS, ask, max_tokens=64)
  got = vdd.summarise(rows)
  assert (got["score"], got["judged"], got["failed"]) == (2.5, 2, 2)
  assert got["score_if_failures_are_zero"] == 1.25


def test_a_killed_run_pays_only_for_what_is_new(tmp_path):
  """Through the real client and a real server: every call at temperature 0."""
  questions = write_questions(tmp_path)
  items = [
    vdc.Captioned("camera", video, "It pans left.", rows)
    for video, rows in questions["camera"].items()
  ]

  def behave(number, body):
    if "Key:" in body["messages"][-1]["content"]:
      return chat('{"pred": "yes", "score": 5}')
    return chat("It pans.")

  with serve(behave) as (url, log):
    settings = dict(
      cache=tmp_path / "cache.jsonl", concurrency=2, asks=2, temperature=0.0
    )
    server = dict(
      base_url=url, model="m", key="k", schema="json_schema", timeout=5.0
    )
    server |= dict(tries=2, first_wait=0.01, longest_wait=1.0, stop_after=9)
    server |= dict(limit_name="max_tokens", extra={})

    def ask(requests, on_answer):
      return judge.ask(requests, on_answer, **settings, **server)

    limits = dict(answer_tokens=256, compare_tokens=256)
    rows, usage = vdc.judge_captions(items[:1], OURS, ask, **limits)
    assert usage.calls == 6 and rows[0]["accuracy"] == 1.0
    rows, usage = vdc.judge_captions(items, OURS, ask, **limits)
    assert (usage.calls, usage.cached) == (2, 6)
  assert {body["temperature"] for body in log.bodies} == {0.0}


def test_prompts_are_chosen_by_seed_and_name():
  items = [Item(f"v{i}", "", "", tuple("abcdef")) for i in range(300)]
  chosen = [choose_prompt(item, 0) for item in items]
  assert chosen == [choose_prompt(item, 0) for item in items]
  assert chosen != [choose_prompt(item, 1) for item in items]
  counts = [chosen.count(prompt) for prompt in "abcdef"]
  assert min(counts) > 30 and sum(counts) == 300
