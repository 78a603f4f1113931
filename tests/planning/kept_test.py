"""Plans that were made before: found for the same question, and no other."""

import json
import os
import shutil

import pytest

from configs import vdc
from synpo_jax.planning import kept
from synpo_jax.runtime import shipped


class Planner:
  """Says and returns how often it has planned."""

  def __init__(self):
    self.times = 0

  def __call__(self, console):
    self.times += 1
    console.print(f"verdict: fits, plan {self.times}")
    return [{"fits": True, "number": self.times}], True


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
  """A cache folder of the test's own."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  return tmp_path / "cache" / "synpo_jax" / "plans"


def test_the_same_question_is_answered_without_planning(own_cache, capsys):
  plan, question = Planner(), {"config": {"a": 1}}
  made = kept.answer(question, plan, anew=False)
  assert "verdict: fits, plan 1" in capsys.readouterr().out
  assert kept.answer(question, plan, anew=False) == made and plan.times == 1
  first, *rest = capsys.readouterr().out.splitlines()
  (file,) = own_cache.iterdir()
  when = json.loads(file.read_bytes())["when"]
  assert first == f"plan of {when}, kept in {file}; --anew makes it anew"
  assert rest == ["verdict: fits, plan 1"]
  kept.answer({"config": {"a": 2}}, plan, anew=False)
  assert plan.times == 2
  kept.answer(question, plan, anew=True)
  assert plan.times == 3
  rows, _ = kept.answer(question, plan, anew=False)
  assert plan.times == 3 and rows == [{"fits": True, "number": 3}]


def test_a_damaged_answer_is_none_and_one_not_kept_is_said(own_cache, capsys):
  plan, question = Planner(), {"config": {"a": 1}}
  kept.answer(question, plan, anew=False)
  (file,) = own_cache.iterdir()
  file.write_bytes(file.read_bytes().replace(b"plan 1", b"plan 7"))
  kept.answer(question, plan, anew=False)
  assert plan.times == 2
  shutil.rmtree(own_cache)
  own_cache.write_text("no folder")
  kept.answer(question, plan, anew=False)
  assert plan.times == 3
  assert capsys.readouterr().err.startswith("this plan is not kept: ")


FLAGS = dict(topology="v5e:2x2", frames=None)


def asked(c, **flags):
  return kept.question(c, **FLAGS | flags)


def test_all_that_a_plan_hangs_on_is_asked(tmp_path, monkeypatch):
  c = vdc.get_config("model=tiny,loss=synpo_list")
  sizes = tmp_path / "model"
  shutil.copytree(shipped.find("synpo_jax/assets/tiny"), sizes)
  c.model.checkpoint, c.data.pairs = str(sizes), str(tmp_path / "lists.jsonl")
  same, met = asked(c), []
  assert asked(c) == same

  def is_other(now):
    assert now not in [same, *met]
    met.append(now)

  is_other(asked(c, topology="v5e:4x4"))
  c.lora.rank *= 2
  is_other(asked(c))
  (tmp_path / "lists.jsonl").write_text('{"captions": ["a", "b", "c"]}\n')
  is_other(asked(c))
  file = sizes / "config.json"
  config = json.loads(file.read_text())
  file.write_text(json.dumps(config | {"num_hidden_layers": 3}))
  is_other(asked(c))
  monkeypatch.setenv("XLA_FLAGS", f"{os.environ['XLA_FLAGS']} ")
  is_other(asked(c))
  monkeypatch.setattr(kept.sys, "version", "another")
  is_other(asked(c))
  code = tmp_path / "code"
  code.mkdir()
  for line in ("a = 1", "a = 2"):
    (code / "module.py").write_text(line)
    monkeypatch.setattr(kept.shipped, "PACKAGE", code)
    is_other(asked(c))
  assert {"jax", "jaxlib"} < same["versions"].keys()
