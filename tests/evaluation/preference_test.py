"""Duels of answers before a judge, and AlpacaEval's files."""

import json

import pytest

from synpo_jax.evaluation import judge_prompts, preference, text_model
from tests.support import tokenizers_made
from tests.support.scripted_judge import scripted

OURS = judge_prompts.load("ours", "preference")


def test_duels_are_asked_in_both_orders():
  ours = {"q1": "A", "q2": "A", "q3": "A", "q4": "A", "q5": "A"}
  theirs = {question: "B" for question in ours}
  pairs = preference.duels(ours, theirs)

  def answers(request):
    text = request.messages[-1]["content"]
    first = text.split("Answer 1:\n")[1][0]
    number = next(q for q in ours if q in text)
    if number == "q1":  # A is better
      return f'{{"better": {1 if first == "A" else 2}}}'
    if number == "q2":  # B is better
      return f'{{"better": {1 if first == "B" else 2}}}'
    if number == "q3":
      return '{"better": 1}'  # always the first
    if number == "q4":
      return '{"better": 0}' if first == "A" else '{"better": 2}'
    return None if first == "A" else '{"better": 1}'

  ask, _ = scripted(answers)
  rows, _ = preference.judge_duels(pairs, OURS, ask, max_tokens=64)
  assert [row["outcome"] for row in rows] == [
    "win",
    "loss",
    "position",
    "tie",
    "failed",
  ]
  got = preference.summarise(rows)
  assert got["win_rate"] == 0.5 and got["judged"] == 4
  # Values 1, 0, 1/2, 1/2: variance 1/6, so the error is sqrt(1/24).
  assert got["standard_error"] == pytest.approx((1 / 24) ** 0.5)


def test_alpaca_outputs_go_round(tmp_path):
  path = tmp_path / "outputs.json"
  rows = [{"dataset": "own", "instruction": "Say é", "output": "é"}]
  preference.write_outputs(path, rows, generator="tiny")
  held = json.loads(path.read_text())
  assert held == [rows[0] | {"generator": "tiny"}]
  assert preference.read_outputs(path) == {"Say é": "é"}
  with pytest.raises(ValueError, match="different instructions, as 'Say é'"):
    preference.duels({"x": "1"}, {"Say é": "2"})


def test_answers_end_where_the_chat_template_ends_them(tmp_path):
  """Its EOS alone would let the model go on into the next turn."""
  tokenizer = tokenizers_made.chatml()
  ends = text_model._ends(tmp_path, tokenizer)
  names = ["<|endoftext|>", "<|im_end|>"]
  assert ends == tuple(tokenizer.convert_tokens_to_ids(names))
  tokenizer.chat_template = None
  assert text_model._ends(tmp_path, tokenizer) == ends[:1]
  tokenizer.chat_template = "{{ raise_exception('no') }}"
  assert text_model._ends(tmp_path, tokenizer) == ends[:1]
