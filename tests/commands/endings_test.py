"""Every command ends with where its things lie, and what can be typed next."""

import json
import pathlib
import shlex
import sys
import zipfile
from types import SimpleNamespace
from unittest import mock

import ml_collections
import pytest

from configs import caption as captioning
from configs import evaluation, pairs, text_pairs, vdc
from configs import warm_start as warm_starting
from synpo_jax import (
  caption,
  evaluate,
  export,
  importance,
  make_pairs,
  plan,
  preflight,
  report,
  warm_start,
  wheels,
)
from synpo_jax.planning import inputs
from synpo_jax.reporting import after, result
from synpo_jax.runtime import ending
from synpo_jax.world import __main__ as world
from tests.support import next_commands

WORKDIR = pathlib.Path("runs/my run")


def test_words_are_quoted_for_a_shell_and_none_is_left_out(capsys):
  command = ending.command("x", ("a", "two words"), ("b", None), ("c", ""))
  assert command == "python -m synpo_jax.x '--a=two words' --c="
  ending.show({"pairs": "p.jsonl"}, command)
  assert capsys.readouterr().out == f"pairs: p.jsonl\nnext:\n  {command}\n"


def test_what_need_not_be_said_is_what_the_configs_have():
  for c in (captioning.get_config(), evaluation.shared()):
    for key, value in after.USUAL.items():
      section, *names = key.split(".")
      found = c[section]
      for name in names:
        found = found[name]
      assert found == value, key


def test_training_ends_with_export_captions_and_scores(capsys):
  after.show(vdc.get_config(), WORKDIR, {"curves": "c.html"}, sees=True)
  text = capsys.readouterr().out
  assert text.startswith(f"curves: c.html\nweights: {WORKDIR}/checkpoints\n")
  commands = dict(next_commands.read(text))
  assert [*commands] == ["export", "caption", "evaluate"]
  assert commands["export"]["format"] == "peft"
  assert commands["export"]["workdir"] == str(WORKDIR)
  assert commands["caption"]["config.model.adapter"] == str(WORKDIR)
  assert commands["caption"]["config.frames.max_frames"] == "8"
  assert commands["evaluate"]["config"] == "eval_shapes"


def test_what_a_run_has_of_its_own_is_handed_on(capsys):
  """Its template, dtype and frames; VDC where there are no scenes."""
  c = vdc.get_config("model=smol")
  c.pixels.resize = "squash"
  after.show(c, WORKDIR, {}, sees=True)
  commands = dict(next_commands.read(capsys.readouterr().out))
  assert commands["export"]["format"] == "merged"  # its projector learned
  assert commands["evaluate"]["config"] == "eval_vdc"
  for entry in ("caption", "evaluate"):
    assert commands[entry]["config.model.template"] == "tokenizer"
    assert commands[entry]["config.model.pixels.resize"] == "squash"


def test_a_language_model_goes_on_to_its_tasks(capsys):
  after.show(text_pairs.get_config(), WORKDIR, {}, sees=False)
  commands = dict(next_commands.read(capsys.readouterr().out))
  assert [*commands] == ["export", "lm_eval_model"]
  assert commands["lm_eval_model"]["model-dir"] == commands["export"]["out"]


def test_a_run_without_held_out_pairs_shows_where_its_curves_go():
  rows = [
    {"step": n, "loss": 1.0 / n, "accuracy": n / 20} for n in range(1, 21)
  ]
  table = result.course(rows)
  assert [c.header for c in table.columns] == [
    *("training pairs", "updates 1-2", "updates 19-20")
  ]
  cells = [[*column.cells] for column in table.columns]
  assert cells[0] == ["loss", "ranking accuracy"]
  assert cells[1] == ["0.750", "0.075"] and cells[2] == ["0.051", "0.975"]


@pytest.mark.parametrize("form", export.FORMATS)
@pytest.mark.parametrize("sees", [True, False])
def test_an_export_is_used(tmp_path, form, sees):
  c = vdc.get_config()
  if not sees:
    c.model.checkpoint = ""
    c.model.arch = dict(
      model_type="llama",
      vocab_size=8,
      hidden_size=8,
      intermediate_size=8,
      num_hidden_layers=1,
      num_attention_heads=1,
    )
  (tmp_path / "config.json").write_text(json.dumps(c.to_dict()))
  told = export._next(tmp_path, form, "out", "")
  entry, given = next_commands.check(told)
  if sees:
    key = "adapter" if form == "peft" else "checkpoint"
    assert entry == "caption" and given[f"config.model.{key}"] == "out"
  else:
    assert entry == {"peft": "export", "merged": "lm_eval_model"}[form]


def test_captions_go_on_to_pairs():
  c = captioning.get_config()
  c.videos, c.model.adapter = "a clip.mp4", "runs/demo"
  entry, given = next_commands.check(caption._next(c))
  assert entry == "make_pairs" and given["config.videos"] == "a clip.mp4"
  assert given["config.model.adapter"] == "runs/demo"
  assert "config.model.kept_ratio" not in given


@pytest.mark.parametrize("recipe", ["", ":tiny", ":smol"])
def test_pairs_go_on_to_training_or_to_the_stages_that_are_left(
  tmp_path, monkeypatch, recipe
):
  monkeypatch.setattr(make_pairs, "config_name", lambda: f"pairs{recipe}")
  again = [("config", f"pairs{recipe}")]
  monkeypatch.setattr(make_pairs, "given_again", lambda *_: again)
  c = pairs.get_config(recipe[1:])
  entry, given = next_commands.check(make_pairs._next(c, tmp_path))
  assert entry == "make_pairs" and given["config.stages"] == "judge,pairs"
  (tmp_path / "pairs.jsonl").touch()
  entry, given = next_commands.check(make_pairs._next(c, tmp_path))
  assert entry == "train"
  assert given["config.data.pairs"] == str(tmp_path / "pairs.jsonl")


def test_scores_of_a_few_videos_go_on_to_all(tmp_path, monkeypatch):
  again = [("config", "eval_vdc")]
  monkeypatch.setattr(evaluate, "given_again", lambda *_: again)
  c = ml_collections.ConfigDict(evaluation.shared())
  c.limit, c.model.adapter = 3, str(tmp_path)
  (tmp_path / "checkpoints").mkdir()
  (tmp_path / "config.json").touch()
  *ours, look = evaluate._next(c, WORKDIR)
  assert [next_commands.check(told)[0] for told in ours] == [
    *("evaluate", "export")
  ]
  assert look == f"python -m json.tool '{WORKDIR}/results.json'"


def test_a_plan_that_fits_is_trained(monkeypatch):
  again = [("config", "vdc:model=auroracap_7b")]
  monkeypatch.setattr(plan, "given_again", lambda *_: again)
  flags = ["--config.mesh.data=1", "--config.data.batch_size=4"]
  entry, given = next_commands.check(plan._train(flags))
  assert entry == "train" and given["config.data.batch_size"] == "4"


@pytest.mark.parametrize("heldout", [0, 4])
def test_a_world_goes_on_to_pairs_and_training(capsys, heldout):
  world._end(pathlib.Path("w"), 8, heldout)
  commands = dict(next_commands.read(capsys.readouterr().out))
  assert [*commands] == ["make_pairs", "train"]
  wanted = "w/heldout.jsonl" if heldout else ""
  assert commands["train"]["config.heldout.pairs"] == wanted


def flag(value):
  return SimpleNamespace(value=value)


def test_a_report_is_opened(monkeypatch, capsys):
  page = WORKDIR / "report" / "index.html"
  monkeypatch.setattr(report, "write", lambda *_: page)
  report.main(["--workdir=x", f"--out={page.parent}"])
  told = f"  python -m webbrowser {shlex.quote(str(page))}\n"
  assert capsys.readouterr().out == f"report: {page}\nnext:\n{told}"


def test_importance_is_drawn(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(importance, "WORKDIR", flag(tmp_path))
  monkeypatch.setattr(importance, "VIDEOS", flag(1))
  monkeypatch.setattr(importance, "run", lambda *_: [{"token": "red"}] * 2)
  importance.main.__wrapped__()
  text = capsys.readouterr().out
  path = tmp_path / "importance.jsonl"
  assert text.startswith(f"2 tokens: {path}\n")
  assert len(path.read_text().splitlines()) == 2
  ((entry, given),) = next_commands.read(text)
  assert (entry, given["workdir"]) == ("report", str(tmp_path))


def test_a_warm_start_goes_on_to_training(tmp_path, monkeypatch, capsys):
  for name in ("world", "warming", "exam"):
    monkeypatch.setattr(warm_start, name, mock.MagicMock())
  warm_start.exam.table.return_value = "marks"
  warm_start.run(warm_starting.get_config(), WORKDIR, tmp_path)
  text = capsys.readouterr().out
  assert f"captioner: {tmp_path}\n" in text and f"{WORKDIR}/exam\n" in text
  ((entry, given),) = next_commands.read(text)
  assert entry == "train" and given["config.model.checkpoint"] == str(tmp_path)
  assert given["config.data.pairs"] == str(tmp_path / "pairs.jsonl")


def test_a_warm_start_that_samples_no_pairs_goes_on_to_the_claims(
  tmp_path, monkeypatch, capsys
):
  for name in ("world", "warming", "exam"):
    monkeypatch.setattr(warm_start, name, mock.MagicMock())
  warm_start.exam.table.return_value = "marks"
  warm_start.run(warm_starting.get_config("smol"), WORKDIR, tmp_path)
  assert warm_start.warming.join_parts.called
  assert not warm_start.warming.teach_tower.called
  assert not warm_start.warming.sample_pairs.called
  ((entry, given),) = next_commands.read(capsys.readouterr().out)
  assert (entry, given["config"]) == ("claims", "claims:smol")
  assert given["config.run.model.checkpoint"] == str(tmp_path)


def test_wheels_go_on_to_training(tmp_path, monkeypatch, capsys):
  (tmp_path / "README.md").touch()
  monkeypatch.setattr(wheels, "OUT", flag(str(tmp_path)))
  wheels.main.__wrapped__()
  text = capsys.readouterr().out
  assert f"checkpoint, clips and pairs: {tmp_path}\n" in text
  ((entry, given),) = next_commands.read(text)
  assert (entry, given["config"]) == ("train", "vdc:model=smol")
  assert given["config.data.videos"] == str(tmp_path / "clips")


def test_wheels_in_a_bucket_are_whole_when_their_readme_is(
  tmp_path, monkeypatch
):
  sent, send = [], wheels.buckets.send
  names = wheels.GGUF_FILE, wheels.ONNX_FILE, "clips/a.mp4"
  with zipfile.ZipFile(tmp_path / "wheel", "w") as wheel:
    for name in names:
      wheel.writestr(name, name)

  def noted(file, to):
    sent.append(to)
    send(file, to)

  monkeypatch.setattr(wheels, "fetch", lambda *_: tmp_path / "wheel")
  monkeypatch.setattr(wheels, "write_checkpoint", lambda *made: made[2].mkdir())
  monkeypatch.setattr(wheels.buckets, "send", noted)
  out = wheels.buckets.at(f"memory://bucket{tmp_path}")
  wheels.build(out, tmp_path)
  assert [path.relative_to(out).as_posix() for path in sent] == [
    *("clips/a.mp4", "pairs.jsonl", "README.md")
  ]
  assert (out / "clips" / "a.mp4").read_text() == "clips/a.mp4"


def test_a_plan_is_kept_in_a_bucket(tmp_path, monkeypatch, capsys):
  out = f"memory://bucket{tmp_path}"
  given = dict(JOB="train", SWEEP=True, OUT=out, KEEP_COMPILED=False)
  for name, value in given.items():
    monkeypatch.setattr(plan, name, flag(value))
  monkeypatch.setattr(plan.environment, "prepare", lambda: None)
  monkeypatch.setattr(plan.separate, "go_on", lambda: None)
  monkeypatch.setattr(plan, "_training", lambda told: ([{"fits": True}], True))
  with pytest.raises(SystemExit, match="^0$"):
    plan.main.__wrapped__()
  assert capsys.readouterr().out == f"plan: {out}/plan.json\n"
  kept = wheels.buckets.at(out) / "plan.json"
  assert json.loads(kept.read_text()) == [{"fits": True}]


@pytest.mark.parametrize("is_ready", [True, False])
def test_what_is_looked_at_goes_on_to_training(
  tmp_path, monkeypatch, capsys, is_ready
):
  found = [inputs.Finding("pairs", "seen", True)]
  found += [inputs.Finding("disk", "too small", False)] * (not is_ready)
  monkeypatch.setattr(preflight, "CONFIG", flag(vdc.get_config()))
  monkeypatch.setattr(preflight, "WORKDIR", flag(tmp_path))
  monkeypatch.setattr(preflight, "WORTH", flag(None))
  monkeypatch.setattr(preflight, "changed", dict)
  monkeypatch.setattr(preflight, "config_name", lambda: "vdc")
  monkeypatch.setattr(preflight.hosts, "start", lambda: None)
  monkeypatch.setattr(preflight.inputs, "look", lambda *_: found)
  monkeypatch.setattr(preflight, "mesh_faults", lambda c: [])
  given = ["--config=vdc", f"--workdir={WORKDIR}"]
  monkeypatch.setattr(sys, "argv", ["preflight", *given])
  with pytest.raises(SystemExit) as end:
    preflight.main.__wrapped__()
  told = capsys.readouterr()
  assert "pairs: ok, seen\n" in told.out and end.value.code == (not is_ready)
  if is_ready:
    ((entry, flags),) = next_commands.read(told.out)
    assert entry == "train" and flags["workdir"] == str(WORKDIR)
  else:
    assert told.err == "error: disk: too small\n" and "next" not in told.out
