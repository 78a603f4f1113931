"""AutoDQ and keypoints: protocol, arithmetic by hand, failures."""

import json
import math
import subprocess
import sys

import pytest

from configs import eval_events, eval_keypoints
from synpo_jax import evaluate
from synpo_jax.evaluation import events, judge_prompts, keypoints, relations
from synpo_jax.judging.replies import Unreadable
from synpo_jax.runtime import journal
from tests.support import known_answers
from tests.support.judge_server import chat, serve
from tests.support.paths import ROOT
from tests.support.scripted_judge import scripted

OURS = judge_prompts.OURS_ALONE
E, C, N = "entailment", "contradiction", "neutral"
ROOM = dict(event_tokens=99, relate_tokens=99)


# Replies


@pytest.mark.parametrize(
  "reply",
  [
    '{"1": "entailment", "2": "neutral"}',
    "Sure:\n```json\n{'2': 'Neutral.', '1': 'Entailed'}\n```",
    '<think>{"1": "neutral"}</think>{1: "entails", 2: "neutral"}',
    '{"reason": "r", "1": "ENTAILMENT", "2": "neutral"}',
  ],
)
def test_relations_are_read_by_number(reply):
  assert relations.read(reply, 2) == [E, N]


@pytest.mark.parametrize(
  ("reply", "fault"),
  [
    ('{"1": "entailment"}', "no object with 1 and 2"),
    ('{"1": "entailment", "2": "neutral", "3": "neutral"}', "no statement 3"),
    ('{"1": "entailment", "2": "probably"}', "statement 2 is 'probably'"),
    ('{"1": "entailment", "1": "neutral", "2": "neutral"}', "twice|two ways"),
    ('{"1": "entailment", "2": "neu', "ends inside"),
    ('{"1": "neutral", "2": "neutral"} {"1": "entailment"}', "1 in two ways"),
    ("Both are entailed.", "no JSON object"),
    ("", "no JSON object"),
  ],
)
def test_other_replies_about_relations_are_refused(reply, fault):
  with pytest.raises(Unreadable, match=fault):
    relations.read(reply, 2)


def test_events_are_a_list_of_sentences_or_nothing():
  assert relations.read_events('{"events": [" A dog runs. "]}') == [
    "A dog runs."
  ]
  assert relations.read_events("{'Events': []}") == []
  for reply in (
    *('["A dog runs."]', '{"events": "A dog runs."}', '{"events": [1]}'),
    *('{"events": [""]}', json.dumps({"events": ["x"] * 21}), "A dog runs."),
    '{"events": ["A dog ru',
  ):
    with pytest.raises(Unreadable):
      relations.read_events(reply)


# AutoDQ


def write_references(path):
  """Two categories; the first row brings its events, the last has none."""
  rows = [
    {
      "video": "v1",
      "reference": "R1",
      "category": "film",
      "events": ["a", "b"],
    },
    {"video": "v2", "reference": "R2", "category": "film"},
    {"video_name": "v3", "reference": "R3", "category": "stock"},
    {"video": "v4", "reference": "R4", "category": "stock"},
  ]
  journal.rewrite(path, rows)
  return path


LISTED = {
  "v1/caption": ["c", "d", "e", "f"],
  "v2/reference": ["a"],
  "v2/caption": ["c"],
  "v3/reference": ["a", "b"],
  "v4/reference": ["a"],
  "v4/caption": [],
}
RELATED = {
  "v1/recall": (E, N),  # 1/2
  "v1/precision": (E, E, E, C),  # 3/4
  "v2/recall": (E,),  # 1
  "v2/precision": (N,),  # 0
  "v4/recall": (N,),  # 0, of a caption that tells no event
}
CAPTIONS = {"v1": "C1", "v2": "C2", "v3": "  ", "v4": "C4"}


def answers(request, related=RELATED):
  if request.id in LISTED:
    return json.dumps({"events": LISTED[request.id]})
  told = related[request.id]
  return told and json.dumps({str(i): w for i, w in enumerate(told, 1)})


def judged(tmp_path, reply=answers):
  references = events.read_references(write_references(tmp_path / "rows.jsonl"))
  ask, asked = scripted(reply)
  rows, usage = events.judge_captions(references, CAPTIONS, OURS, ask, **ROOM)
  return {row["id"]: row for row in rows}, usage, asked


def test_autodq_by_hand(tmp_path):
  rows, usage, asked = judged(tmp_path)
  figures = {
    v: (row["precision"], row["recall"], row["f1"]) for v, row in rows.items()
  }
  assert figures == {
    "v1": (0.75, 0.5, pytest.approx(0.6)),
    "v2": (0.0, 1.0, 0.0),
    "v3": (None, 0.0, 0.0),  # blank: nothing is claimed, nothing found
    "v4": (None, 0.0, 0.0),
  }
  assert rows["v1"]["contradicted"] == 0.25
  assert rows["v1"]["caption_events"][3] == {"claim": "f", "relation": C}
  assert {row["relation"] for row in rows["v3"]["reference_events"]} == {N}
  found = events.summarise(list(rows.values()))
  film, stock = found["categories"]["film"], found["categories"]["stock"]
  p, r = 0.375, 0.75
  assert (film["precision"], film["recall"]) == (p, r)
  assert film["f1"] == pytest.approx(2 * p * r / (p + r))
  # Of two values the error of the mean is half their difference.
  assert film["precision_se"] == pytest.approx(0.375)
  assert film["recall_se"] == pytest.approx(0.25)
  step, h = 1e-6, lambda p, r: 2 * p * r / (p + r)
  slopes = (h(p + step, r) - h(p, r)) / step, (h(p, r + step) - h(p, r)) / step
  wanted = math.hypot(slopes[0] * 0.375, slopes[1] * 0.25)
  assert film["f1_se"] == pytest.approx(wanted, rel=1e-4)
  assert (stock["precision"], stock["recall"], stock["f1"]) == (None, 0, 0)
  assert stock["captions_without_events"] == 2
  assert found["precision"] == p and found["recall"] == 0.375
  assert found["recall_se"] == pytest.approx(0.25 / 2)
  assert found["f1"] == pytest.approx(0.375) and found["judged"] == 4
  # What was asked: events of two captions and three references, then relations
  # of what there is; the caption is held against the reference and back.
  assert len(asked[0]) == 6 and {r.id for r in asked[1]} == {*RELATED}
  (recall,) = [r for r in asked[1] if r.id == "v1/recall"]
  text = recall.messages[-1]["content"]
  assert "C1" in text and "R1" not in text and "1. a\n2. b" in text
  assert usage.calls == 11


def test_failures_of_events_are_counted_and_never_become_scores(tmp_path):
  def reply(request):
    if request.id == "v2/caption":
      return "There is a dog."
    return answers(request, RELATED | {"v1/recall": None})

  rows, _, asked = judged(tmp_path, reply)
  assert not any(r.id.startswith("v2") for r in asked[1])
  assert rows["v1"]["failure"].startswith("unavailable")
  assert rows["v2"]["failure"].startswith("unusable")
  for video in ("v1", "v2"):
    assert rows[video]["precision"] is rows[video]["f1"] is None
  assert rows["v2"]["reference_events"] == [{"claim": "a", "relation": None}]
  found = events.summarise(list(rows.values()))
  assert (found["judged"], found["failed"]) == (2, 2)
  assert found["categories"]["film"]["f1"] is None


# Keypoints


def test_keypoints_by_hand(tmp_path):
  look = {"category": "look"}
  journal.rewrite(
    tmp_path / "rows.jsonl",
    [
      {
        "video": "v1",
        "keypoints": [{"keypoint": "a"} | look, {"keypoint": "b"} | look, "c"],
        "category": "act",
      },
      {"video": "v2", "keypoints": ["a"]} | look,
      {"video": "v3", "keypoints": ["a", "b"]},
      {"video": "v4", "keypoints": ["a"]},
    ],
  )
  references = keypoints.read_references(tmp_path / "rows.jsonl")
  told = {"v1": (E, C, E), "v2": (N,), "v4": None}

  def reply(request):
    words = told[request.id]
    return words and json.dumps({str(i): w for i, w in enumerate(words, 1)})

  ask, _ = scripted(reply)
  captions = {"v1": "x", "v2": "x", "v3": "", "v4": "x"}
  rows, _ = keypoints.judge_captions(
    references, captions, OURS, ask, relate_tokens=99
  )
  names = ("accuracy", "coverage", "precision")
  assert [tuple(row[name] for name in names) for row in rows] == [
    (2 / 3, 1.0, 2 / 3),
    *((0.0, 0.0, None), (0.0, 0.0, None)),
    (None, None, None),
  ]
  found = keypoints.summarise(rows)
  assert found["accuracy"] == pytest.approx(2 / 9)
  assert found["accuracy_se"] == pytest.approx(2 / 9)  # of 2/3, 0, 0
  assert (found["judged"], found["failed"]) == (3, 1)
  parts = found["categories"]
  assert {name: part["accuracy"] for name, part in parts.items()} == {
    **{"look": 0.25, "act": 1.0, "all": 0.0},
  }
  assert (parts["look"]["coverage"], parts["look"]["coverage_se"]) == (0.5, 0.5)
  assert parts["act"]["accuracy_se"] is None


# Files, and the whole


@pytest.mark.parametrize(
  ("module", "row"),
  [
    (events, {"video": "v"}),
    (events, {"video": "v", "reference": " "}),
    (events, {"video": "v", "reference": "x", "events": "a"}),
    (events, {"video": "v", "reference": "x", "events": [""]}),
    (events, {"video": "v", "reference": "x", "category": 3}),
    (keypoints, {"video": "v", "keypoints": []}),
    (keypoints, {"video": "v", "keypoints": "a"}),
    (keypoints, {"video": "v", "keypoints": [{"category": "x"}]}),
    (keypoints, {"keypoints": ["a"]}),
    (keypoints, ["a"]),
  ],
)
def test_bad_rows_are_named(module, row, tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text(f"{json.dumps(row)}\nno JSON\n")
  with pytest.raises(ValueError, match=r"line 1: needs .*\n.*line 2: needs"):
    module.read_references(path)


def test_a_video_that_comes_twice_is_named(tmp_path):
  row = {"video": "v", "reference": "x"}
  journal.rewrite(tmp_path / "rows.jsonl", [row, row])
  with pytest.raises(ValueError, match="line 2: video 'v' is there twice"):
    events.read_references(tmp_path / "rows.jsonl")


def behave(n, body):
  """Finds events between full stops; entailed is what is there word by word."""
  if known := known_answers.reply(body):
    return known
  text = body["messages"][-1]["content"].partition("Description:\n")[2]
  about, _, rest = text.partition("\n\n")
  if rest.startswith("List"):
    found = [f"{part.strip()}." for part in about.split(".") if part.strip()]
    torn = n % 5 == 0  # now and then a reply breaks off
    return chat(json.dumps({"events": found})[: 12 if torn else None])
  claims = rest.partition("Statements:\n")[2].partition("\n\n")[0].splitlines()
  words = [E if claim.partition(". ")[2] in about else N for claim in claims]
  return chat(json.dumps({str(i): w for i, w in enumerate(words, 1)}))


def test_events_and_keypoints_are_evaluated_and_asked_nothing_twice(tmp_path):
  rows = [
    {
      "video": v,
      "reference": "A dog runs. A cat sits.",
      "caption": f"A dog runs. {end}",
      "keypoints": ["A dog runs.", "A cat sits."],
    }
    for v, end in (("v1", "It rains."), ("v2", "A cat sits. It snows."))
  ]
  path = tmp_path / "rows.jsonl"
  journal.rewrite(path, rows)
  scores = {}
  for name, recipe in (("events", eval_events), ("keypoints", eval_keypoints)):
    c = recipe.get_config()
    c.data.references = c.predictions = str(path)
    with serve(behave) as (url, log):
      c.judge.update(base_url=url, model="m")
      found = evaluate.run(c, tmp_path / name)
      asked = len(log.bodies)
      assert evaluate.run(c, tmp_path / name)["scores"] == found["scores"]
      assert len(log.bodies) == asked == found["judge_cost"]["calls"]
    assert found["judge_trial"]["failed"] == found["scores"]["failed"] == 0
    scores[name] = found["scores"]
  assert scores["events"]["precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)
  assert scores["events"]["recall"] == pytest.approx((1 / 2 + 1) / 2)
  assert scores["keypoints"]["accuracy"] == pytest.approx(0.75)
  held = journal.read(tmp_path / "events" / "items.jsonl")["v1"]
  assert held["caption_events"][1] == {"claim": "It rains.", "relation": N}


def test_the_command_ends_where_its_judge_fails(tmp_path):
  """As the README has it typed; this judge finds that all is entailed."""
  row = {"video": "v", "caption": "x", "keypoints": ["a", "b"]}
  journal.rewrite(tmp_path / "rows.jsonl", [row])
  easy = json.dumps({"1": E, "2": E})
  with serve(lambda n, body: chat(easy)) as (url, log):
    done = subprocess.run(
      [
        *(sys.executable, "-m", "synpo_jax.evaluate"),
        *("--config=configs/eval_keypoints.py", f"--workdir={tmp_path}/run"),
        f"--config.data.references={tmp_path}/rows.jsonl",
        f"--config.predictions={tmp_path}/rows.jsonl",
        *("--config.judge.repeats=5", "--config.judge.temperature=0.7"),
        *(f"--config.judge.base_url={url}", "--config.judge.model=m"),
      ],
      cwd=ROOT,
      capture_output=True,
      text=True,
    )
  head, *replies = done.stderr.splitlines()
  assert done.returncode == 1
  assert head.startswith(f"error: judge: m at {url} answers 5 of 6 known items")
  assert len(replies) == 5 and all(repr(easy) in line for line in replies)
  assert len(log.bodies) == 6
  assert not (tmp_path / "run" / "results.json").exists()


def test_prompts_of_a_file_are_checked(tmp_path):
  path = tmp_path / "prompts.json"
  chat = [{"role": "user", "content": "{text} {claims}"}]
  path.write_text(json.dumps({"relate": chat}))
  found = judge_prompts.load(str(path), "keypoints")
  asked = relations.request("k", "T", ["a"], found, 9)
  assert asked.messages[0]["content"] == "T 1. a"
  with pytest.raises(ValueError, match="no 'events' messages, which events"):
    judge_prompts.load(str(path), "events")
  with pytest.raises(ValueError, match="lmms-eval has no prompts of events"):
    judge_prompts.from_lmms_eval(tmp_path, "events")
