"""What benchmark judges are asked, and how their replies are read."""

import json
import textwrap

import pytest

from synpo_jax.evaluation import judge_prompts, verdicts
from synpo_jax.judging.replies import Unreadable

GOOD = {
  "{'pred': 'yes', 'score': 4.8}.": (True, 4.8),
  '```json\n{"Pred": "NO.", "Score": "2"}\n```': (False, 2.0),
  'Sure! {"pred": true, "score": 5} Anything else?': (True, 5.0),
  "pred: no, score: 3": (False, 3.0),
  "<think>{'pred': 'no', 'score': 0}</think> {'pred':'yes','score':3}": (
    True,
    3.0,
  ),
}
BAD = ["", "yes", '{"pred": "maybe", "score": 3}', '{"pred": "yes"}']
BAD += ['{"pred": "yes", "score": 6}', '{"pred": "yes", "sco']
BAD += ["pred: yes, score: 45", '{"pred": "yes", "score": NaN}']


def test_verdicts_are_read_in_many_forms():
  for reply, want in GOOD.items():
    assert tuple(verdicts.verdict(reply)) == want
  for reply in BAD:
    with pytest.raises(Unreadable):
      verdicts.verdict(reply)
  assert verdicts.score("{'score': 4}") == 4 and verdicts.better('{"better":2}')


OFFICIAL_VDC = """
import os
HF_HOME = os.environ["NOT_SET"]
CAMERA_CAPTION_PROMPTS = ["Tell the camera.", "Camera?"]
def generate_response(question, caption, max_tokens: int):
  messages = [
    {"role": "system", "content": "Answer " "briefly."},
    {"role": "user", "content": f"D: {caption}, Q: {question}" "END"},
  ]
def gpt_match(question, answer, pred_answer, max_tokens: int):
  messages = [
    {"role": "user", "content": f"{question}|{answer}|{pred_answer}"
     "like {'pred': 'yes'}"},
  ]
"""
OFFICIAL_VDD = """
def get_eval_generic(question, answer, pred, max_tokens: int):
  messages = [{"role": "user", "content": f"{question}|{answer}|{pred}"}]
"""


def test_official_prompts_are_read_and_not_run(tmp_path):
  for name, text in (
    ("vdc", OFFICIAL_VDC),
    ("video_detail_description", OFFICIAL_VDD),
  ):
    (tmp_path / "tasks" / name).mkdir(parents=True)
    (tmp_path / "tasks" / name / "utils.py").write_text(textwrap.dedent(text))
  got = judge_prompts.from_lmms_eval(tmp_path, "vdc")
  assert got.source == "lmms_eval" and got.version.startswith("lmms-eval-")
  assert got.captions == {"camera": ("Tell the camera.", "Camera?")}
  system, user = judge_prompts.fill(got, "answer", question="W?", caption="C")
  assert system["content"] == "Answer briefly."
  assert user["content"] == "D: C, Q: W?END"
  (user,) = judge_prompts.fill(
    got, "compare", question="{gold}", gold="G", answer="A"
  )
  assert user["content"] == "{gold}|G|Alike {'pred': 'yes'}"
  got = judge_prompts.from_lmms_eval(tmp_path, "vdd")
  (user,) = judge_prompts.fill(
    got, "detail", question="Q", gold="G", caption="C"
  )
  assert user["content"] == "Q|G|C"


def test_prompts_from_a_file_and_by_default(tmp_path):
  path = tmp_path / "prompts.json"
  path.write_text(json.dumps({"answer": [{"role": "user", "content": "?"}]}))
  with pytest.raises(ValueError, match="does not use {question}"):
    judge_prompts.load(str(path), "vdc")
  for held in ([], {"answer": "?"}, {"answer": [{"role": "user"}]}):
    path.write_text(json.dumps(held))
    with pytest.raises(ValueError, match="prompts.json: .*not a"):
      judge_prompts.load(str(path), "vdc")
  message = {"role": "user", "content": "{question} {first} {second}"}
  path.write_text(json.dumps({"version": "7", "prefer": [message]}))
  got = judge_prompts.load(str(path), "preference")
  assert got.version.startswith("7-") and got.source == str(path)
  assert judge_prompts.load("auto", "vdc").source == "ours"
  with pytest.raises(ValueError, match="not installed"):
    judge_prompts.load("lmms_eval", "vdc")
