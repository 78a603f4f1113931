"""Judges on trial: who passes, who is refused, and what is said of it."""

import json

import pytest

from configs import evaluation
from synpo_jax.evaluation import benchmarks, judge_prompts
from synpo_jax.evaluation import known_items as of_benchmarks
from synpo_jax.judging import trial
from synpo_jax.judging.replies import Unreadable
from synpo_jax.pairing import known_items as of_pairs
from tests.support.judge_server import chat, serve

OURS = judge_prompts.OURS_ALONE
TOKENS = {
  "vdc": dict(answer_tokens=9, compare_tokens=9),
  "events": dict(event_tokens=9, relate_tokens=9),
  "keypoints": dict(relate_tokens=9),
}
# What a judge that understands replies, item by item, and what one that
# understands all but this item may reply instead.
PAIRS = {
  "factuality of a right caption": (5, 3),
  "factuality of a wrong caption": (0, 3),
  "factuality of a caption with the people swapped": (2, 5),
  "fluency of a good caption": (4, 2),
  "fluency of broken words": (0, 3),
  "fluency of an empty caption": (0, 2),
  "consistency of three alike and another": ((3, 3, 2, 0), (3, 3, 3, 3)),
  "consistency of another and three alike": ((1, 2, 3, 3), (3, 3, 3, 2)),
}
VDC = {
  "an answer of a caption that tells it": ("Yellow.", "not mentioned"),
  "an answer of a caption of another colour": ("It is green", "yellow"),
  "an answer of an empty caption": ("not mentioned", "Red, I guess."),
  "verdict on a right answer": ("yes", "no"),
  "verdict on another right answer": ("yes", "no"),
  "verdict on a wrong answer": ("no", "yes"),
  "verdict on another wrong answer": ("no", "yes"),
  "verdict on an answer with the people swapped": ("no", "yes"),
  "verdict on an empty answer": ("no", "yes"),
}
VDD = {
  "detail of a right description": (4, 2),
  "detail of another right description": (3, 2),
  "detail of a description that says nothing": (0, 3),
  "detail of two swapped, the first": (1, 4),
  "detail of two swapped, the second": (1, 4),
  "detail of an empty description": (0, 2),
}
PREFERENCE = {
  f"a right answer and {what}{end}": (1 + bool(end), 2 - bool(end))
  for what in ("a wrong answer", "one to another question", "an empty answer")
  for end in ("", ", swapped")
}
E, C, N = "entailment", "contradiction", "neutral"
KEYPOINTS = {
  "relations of right statements": ((E, E), (E, N)),
  "relations of wrong statements": ((N, C), (N, E)),
  "relations of statements of swapped people": ((C, C), (E, E)),
  "relations of a right and a wrong one": ((E, N), (E, E)),
  "relations of these two swapped": ((C, E), (E, N)),
  "relations of an empty description": ((N, N), (E, E)),
}
HAPPENS = ["She hands him a book.", "He reads.", "She walks away."]
EVENTS = {
  "events of a clip": (HAPPENS, []),
  "events of a picture in which nothing happens": ([], ["A wall.", "A sky."]),
  **KEYPOINTS,
}
SHEETS = {"vdc": VDC, "vdd": VDD, "preference": PREFERENCE}
SHEETS |= {"events": EVENTS, "keypoints": KEYPOINTS}


def known(name):
  if name == "pairs":
    return of_pairs.items()
  tokens = TOKENS.get(name, dict(max_tokens=9))
  return of_benchmarks.KNOWN[name](OURS, **tokens)


def as_reply(recipe, item, answer):
  """An answer of the sheets as a judge would put it."""
  if isinstance(answer, list):
    return json.dumps({"events": answer})
  if item.startswith("relations"):
    return json.dumps(dict(zip("12", answer, strict=True)))
  if isinstance(answer, tuple):
    numbered = {str(i): score for i, score in enumerate(answer, 1)}
    return json.dumps({"reason": "r", "scores": numbered})
  if recipe == "preference":
    return json.dumps({"better": answer})
  if item.startswith("verdict"):
    return json.dumps({"pred": answer, "score": 5 if answer == "yes" else 1})
  return answer if isinstance(answer, str) else json.dumps({"score": answer})


def test_every_judge_that_is_asked_is_tried():
  asked = {name for name, b in benchmarks.BENCHMARKS.items() if b.judged}
  assert asked == of_benchmarks.KNOWN.keys() == SHEETS.keys()


@pytest.mark.parametrize("recipe", ["pairs", *SHEETS])
def test_each_item_is_passed_by_what_is_right_alone(recipe):
  sheet = PAIRS if recipe == "pairs" else SHEETS[recipe]
  items = known(recipe)
  assert [item.request.id for item in items] == list(sheet)
  for item in items:
    for answer, right in zip(
      sheet[item.request.id], (True, False), strict=True
    ):
      reply = as_reply(recipe, item.request.id, answer)
      assert item.wanted.holds(item.request.parse(reply)) == right


@pytest.mark.parametrize("recipe", ["pairs", *SHEETS])
@pytest.mark.parametrize("score", range(6))
def test_one_reply_to_everything_passes_nowhere(recipe, score):
  replies = [f'{{"score": {score}}}', f'{{"better": {score}}}']
  replies += [f'{{"pred": "{w}", "score": {score}}}' for w in ("yes", "no")]
  replies += ['{"1": 3, "2": 2, "3": 1, "4": 0}', "yellow", "no"]
  replies += [json.dumps({"1": word, "2": word}) for word in (E, C, N)]
  replies += ['{"events": []}']
  for reply in replies:
    assert not all(passes(item, reply) for item in known(recipe))


def passes(item, reply):
  try:
    return item.wanted.holds(item.request.parse(reply))
  except Unreadable:
    return False


def section(url, **changes):
  c = evaluation.judge()
  c.update(base_url=url, model="m", key="sk-secret", first_wait=0.01)
  c.update(changes)
  return c.to_dict()


def test_replies_are_shown_and_kept_and_never_asked_for_twice(tmp_path):
  """This judge likes what is empty, and may echo the key."""

  def behave(n, body):
    text = body["messages"][-1]["content"]
    for item in items:
      if text.startswith(item.request.messages[-1]["content"]):
        right, wrong = VDD[item.request.id]
        if item.request.id == "detail of an empty description":
          return chat(f'{{"score": {wrong}}} ' + "x" * 300)
        if "says nothing" in item.request.id:
          return chat("I\x1b[2J cannot tell: sk-secret")
        return chat(f'{{"score": {right}}}')

  items = known("vdd")
  with serve(behave) as (url, log):
    with pytest.raises(trial.Failed) as said:
      trial.hold(items, tmp_path, **section(url, asks=2))
    asked = len(log.bodies)
    found, usage = trial.hold(
      items, tmp_path, **section(url, may_fail=2, asks=2)
    )
    assert asked == len(log.bodies) == 7  # one of them twice
  head, nothing, empty = str(said.value).split("\n")
  assert "m at http://" in head and "2 of 6 known items wrongly" in head
  assert nothing.endswith(
    "wanted 2 or less, replied 'I\ufffd[2J cannot tell: ***'"
  )
  assert empty.endswith("x…'") and len(empty) < 300
  assert (usage.calls, usage.cached) == (0, 7)
  assert found == trial.result(tmp_path) and found["failed"] == 2
  assert [item["passed"] for item in found["items"]].count(False) == 2


def test_a_judge_that_is_away_has_not_failed(tmp_path, caplog):
  """Tried early it may be; nothing is said to have come of it."""

  def behave(n, body):
    away = "Something happens" in body["messages"][-1]["content"]
    return (500, {}, "") if away else chat('{"score": 3}')

  with serve(behave) as (url, _):
    asked = known("vdd"), tmp_path
    with pytest.raises(ValueError, match="left 1 of 6 known items") as said:
      trial.hold(*asked, **section(url, tries=1, schema="none"))
    assert not isinstance(said.value, trial.Failed)
    trial.hold_early(*asked, **section(url, tries=1, schema="none"))
  assert "is tried when there are captions" in caplog.text
  assert trial.result(tmp_path) is None


@pytest.mark.parametrize("wrong", [dict(repeats=0), dict(may_fail=-1)])
def test_counts_that_make_no_sense_are_refused(tmp_path, wrong):
  ((name, value),) = wrong.items()
  with pytest.raises(ValueError, match=f"judge.{name}={value}: give"):
    trial.hold(known("vdd"), tmp_path, **section("http://h:1", **wrong))
