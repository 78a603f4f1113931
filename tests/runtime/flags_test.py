"""What every command tells of its flags and its config, and what it refuses."""

import errno
import importlib
import subprocess
import sys

import pytest

from configs import vdc
from synpo_jax.runtime import config_help, config_keys, flags
from tests.support.paths import ROOT

# A command that trains nothing and imports next to nothing.
COMMAND = '''"""Does a thing.

python -m thing --config=configs/vdc.py
"""
from synpo_jax.runtime.flags import CONFIG, command

@command("config")
def main():
  c = CONFIG.value
  print(c.epochs, c.data.min_score_gap, c.optim.clip_norm, c.frames.fixed)

main()
'''


def started(*arguments):
  return subprocess.run(
    [sys.executable, "-c", COMMAND, *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )


@pytest.mark.parametrize(
  "arguments, told",
  (
    (("--config=vdc", "--config.optim.lrr=1"), "optim.lrr: "),
    (("--config=vdc", "--config.lr", "1"), "nearest: optim.lr"),
    (("--config=vdc:loss=synop",), "no such loss; nearest: synpo"),
    (("--config=vdc:model=auroracap",), "nearest: auroracap_7b"),
    (("--config=text_pairs:loss=dop",), "no such loss; nearest: "),
    (("--config=vcd",), "nor the name of a config, as vdc"),
    (("--config=vdc", "--config.epochs=many"), "--config.epochs=many"),
    (("--config=vdc", "--config.epochs=None"), "this key needs a value"),
    (("--config=lists:x",), "takes no argument"),
    (("--confg=vdc",), "Did you mean: config"),
    (("--config=vdc", "--config.optim={'lrr': 1.0}"), "nearest: lr"),
    (("--config=vdc", "--config.optim={'lr': 1.0}"), "lacks b1, b2, "),
    ((), "--config"),
  ),
)
def test_what_is_misspelt_is_one_line_with_the_nearest_names(arguments, told):
  done = started(*arguments)
  assert done.returncode == 1
  assert told in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
  assert done.stderr.startswith("error: ")


def test_help_leaves_with_0_and_lists_the_keys_of_the_usual_config():
  done = started("--help")
  assert (done.returncode, done.stderr) == (0, "")
  assert "Does a thing" in done.stdout
  lines = [line.strip() for line in done.stdout.splitlines()]
  at = lines.index("--config.optim.lr=0.001")  # of model=tiny
  rates = [
    f"--config.optim.lr_{of}=None (or float)" for of in ("projector", "tower")
  ]
  assert lines[at + 1 : at + 5 : 2] == rates
  assert lines[at + 5] == "--config.optim.warmup_frac=0.1"
  at = lines.index("--config.data.workers=0")
  assert lines[at + 1] == "processes that decode, and that read ahead"
  at = lines.index("--config.mesh.data=-1")
  assert lines[at - 1] == "-1 takes the devices left over"


def test_the_whole_help_leaves_with_0_too():
  done = started("--helpfull")
  assert (done.returncode, done.stderr) == (0, "")
  assert "Does a thing" in done.stdout and "absl.logging" in done.stdout


def test_help_is_of_the_config_that_is_named():
  done = started("--config=eval_vdc", "--help")
  assert done.returncode == 0
  assert "--config.judge.asks=3" in done.stdout
  assert "of one question, until the reply can be read" in done.stdout
  assert "--config.optim.lr" not in done.stdout


@pytest.mark.parametrize(
  "path", sorted((ROOT / "configs").glob("*.py")), ids=lambda path: path.stem
)
def test_every_comment_of_a_config_is_that_of_a_key(path):
  if "def get_config(" not in path.read_text("utf-8"):
    return
  config = importlib.import_module(f"configs.{path.stem}").get_config()
  known = {key.name for key in config_keys.keys(config)}
  sections = {
    name[:place]
    for name in known
    for place in range(len(name))
    if name[place] == "."
  }
  said = config_help.comments(path)
  assert len(said) > 20
  # Sections that this config makes anew, of other keys.
  anew = {
    "eval_preference": ("model.",),
    "rounds": ("evaluate.judge", "evaluate.prompts", "evaluate.data"),
    "warm_start": ("run.model.arch", "policy"),
  }
  for name in {*said} - known - sections:
    assert name.startswith(anew[path.stem]), name


def test_none_is_taken_by_the_keys_that_may_be_none_and_numbers_too():
  done = started(
    *("--config=vdc", "--config.data.min_score_gap=None"),
    *("--config.optim.clip_norm=1", "--config.frames.fixed=4"),
  )
  assert done.stdout == "2 None 1.0 4\n", done.stderr
  done = started("--config=vdc", "--config.optim.clip_norm=None")
  assert done.stdout == "2 0.1 None None\n", done.stderr


def test_what_may_be_none_is_said_in_a_comment():
  config = vdc.get_config()
  may = {key.name for key in config_keys.keys(config) if key.optional}
  assert may == {
    *("data.min_score_gap", "data.question", "model.kept_ratio"),
    *("frames.fixed", "optim.clip_norm", "judge.temperature"),
    *("loss.all_pairs", "loss.wpo", "loss.ld_alpha"),
    "lora.tower_layers",
    *("optim.lr_projector", "optim.lr_tower"),
  }
  said = config_help.comments(ROOT / "configs" / "vdc.py")
  assert all("None" in said[name] for name in may)


@pytest.mark.parametrize(
  ("number", "end"),
  [
    (errno.ENOSPC, ": 'a/b'; make room there and start again"),
    (errno.EDQUOT, ": 'a/b'; make room there and start again"),
    (errno.EACCES, ": 'a/b'"),
  ],
)
def test_a_full_disk_is_told_with_the_way_out(number, end):
  with pytest.raises(SystemExit) as left, flags.one_line():
    raise OSError(number, "said", "a/b")
  assert left.value.code == f"error: [Errno {number}] said{end}"


def test_no_key_and_no_password_is_given_again(monkeypatch):
  now = {
    "judge.openai.key": "sk-secret",
    "model.endpoint": "http://user:hunter2@host:1/v1",
    "videos": "a@b/*.mp4",
    "stages": "clips",
  }
  changed = {key: flags.Change("", value) for key, value in now.items()}
  monkeypatch.setattr(flags, "changed", lambda: changed)
  monkeypatch.setattr(flags, "config_name", lambda: "pairs")
  assert flags.given_again("stages") == [
    ("config", "pairs"),
    ("config.model.endpoint", "http://host:1/v1"),
    ("config.videos", "a@b/*.mp4"),
  ]
