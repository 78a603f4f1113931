"""What a start does not wait for: libraries that nobody asked for yet."""

import importlib.util
import os
import subprocess
import sys

from tests.support.paths import ROOT

ENTRIES = (
  *("train", "caption", "make_pairs", "evaluate", "export", "report"),
  *("importance", "claims", "plan", "preflight", "wheels", "warm_start"),
)


def real(code: str, **variables) -> str:
  """What Python prints where PyTorch is found, unlike in other tests."""
  assert importlib.util.find_spec("torch")
  kept = {k: v for k, v in os.environ.items() if k != "USE_TORCH"}
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=ROOT,
    env=kept | {"PYTHONPATH": ""} | variables,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_importing_commands_imports_no_library_of_later():
  late = ("torch", "transformers", "tensorboardX", "matplotlib", "openai")
  code = f"""
import importlib.util, os, sys
from synpo_jax import {", ".join(ENTRIES)}
print([name for name in {late} if name in sys.modules])
print(bool(importlib.util.find_spec("torch")), os.environ.get("USE_TORCH"))
"""
  assert real(code) == "[]\nTrue None\n"  # a program of others is left alone


WORK = """
import sys
sys.argv = ["/usr/bin/synpo-train"]
from synpo_jax.data import tokenizer_folder
from synpo_jax.training import tracker
import pathlib, tempfile
tokenizer_folder.load_tokenizer("synpo_jax/assets/tiny")
with tempfile.TemporaryDirectory() as folder:
  events = tracker.Events(pathlib.Path(folder), purge_step=1)
  events.write({"step": 1, "loss": 0.5})
  events.close()
print(sys.modules.get("torch"))
"""


def test_a_command_works_without_pytorch_where_it_is_installed():
  assert real(WORK) == "None\n"


def test_a_command_finds_pytorch_where_it_is_told_to():
  code = """
import importlib.util, sys
sys.argv = ["/usr/bin/synpo-train"]
import synpo_jax
print(bool(importlib.util.find_spec("torch")))
"""
  assert real(code, USE_TORCH="1") == "True\n"
  assert real(code) == "False\n"
  assert real(code.replace("synpo-train", "synpo-lm-eval")) == "True\n"
