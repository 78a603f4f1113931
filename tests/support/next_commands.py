"""Commands that a command ends with, held against what those commands take."""

import importlib
import pathlib
import re
import shlex

from tests.support.paths import ROOT

PACKAGE = ROOT / "synpo_jax"


def read(text):
  """Commands after "next:", as (entry, {flag: value}); all must be right."""
  lines = text.partition("next:\n")[2].splitlines()
  return [check(line) for line in lines if line.startswith("  ")]


def check(command):
  """(entry, {flag: value}) of a command whose flags its entry has."""
  python, m, module, *words = shlex.split(command)
  assert (python, m) == ("python", "-m") and module.startswith("synpo_jax.")
  entry = module.removeprefix("synpo_jax.")
  flags = [re.fullmatch(r"--([\w.-]+)=(.*)", word).groups() for word in words]
  given = dict(flags)
  keys = {n: v for n, v in given.items() if n.startswith("config.")}
  if keys:
    config = _config(given["config"])
    for key in keys:
      _find(config, key.removeprefix("config."))
  text = (PACKAGE / f"{entry}.py").read_text()
  for name in given.keys() - keys.keys():
    own = f'"{name}"', f"--{name} "  # of lm-eval's the docstring tells
    assert any(word in text for word in own), f"{entry} has no --{name}"
  return entry, given


def _config(name):
  file, _, argument = name.partition(":")
  module = importlib.import_module(f"configs.{pathlib.Path(file).stem}")
  return module.get_config(*filter(None, [argument]))


def _find(config, key):
  for part in key.split("."):
    assert part in config, f"the config has no {key}"
    config = config[part]
