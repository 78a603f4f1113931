"""Ctrl-C before a command has begun, while Python still imports it."""

import os
import signal
import subprocess
import sys
import tomllib

import pytest

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
SCRIPTS = PROJECT["project"]["scripts"]
# Stands for a library that takes its time to be imported.
SLOW = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""
STARTED = """
import sys
from {module} import main
sys.exit(main())
"""


@pytest.fixture
def slow(tmp_path):
  """A folder whose libraries are found before those that are installed."""
  for name in ("absl", "numpy", "jax", "ml_collections", "lm_eval"):
    (tmp_path / f"{name}.py").write_text(SLOW)
  return tmp_path


def run(slow, *command):
  return subprocess.run(
    [sys.executable, *command],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": os.pathsep.join((str(slow), str(ROOT)))},
    capture_output=True,
    text=True,
    timeout=300,
  )


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_command_that_imports_is_ended_without_a_trace(slow, name):
  module = SCRIPTS[name].partition(":")[0]
  done = run(slow, "-m", module.removesuffix(".__main__"))
  # By the signal itself, which a shell tells as 130.
  assert done.returncode == -signal.SIGINT
  assert (done.stdout, done.stderr) == ("", "")


def test_so_is_one_that_was_started_by_its_script(slow):
  script = slow / "synpo-train"
  script.write_text(STARTED.format(module="synpo_jax.train"))
  done = run(slow, str(script))
  assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_other_programs_hear_it_as_they_did(slow):
  done = run(slow, "-c", "import synpo_jax, absl", "-m", "synpo_jax.train")
  assert done.stderr.endswith("KeyboardInterrupt\n")
