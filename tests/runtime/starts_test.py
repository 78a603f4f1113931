"""What a start does not wait for: libraries that nobody asked for yet."""

import importlib.util
import os
import subprocess
import sys

import pytest

from synpo_jax.runtime import starting
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

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

import pytest
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


START = """
import os, sys
sys.argv = ["/usr/bin/synpo-train", *sys.argv[1:]]
from synpo_jax.runtime import flags, hosts
import jax

@flags.command(also=hosts.FLAGS)
def main():
  print(jax.config.jax_compilation_cache_dir)
  print(os.environ.get("XLA_CLIENT_MEM_FRACTION"))

main()
"""


def begun(*given, **variables) -> list[str]:
  """What a command says of its cache and its part of a GPU."""
  unset = ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME")
  kept = {k: v for k, v in os.environ.items() if k not in unset}
  done = subprocess.run(
    [sys.executable, "-c", START, *given],
    cwd=ROOT,
    env=kept | variables,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return [*done.stdout.splitlines(), *done.stderr.splitlines()]


def test_a_command_keeps_programs_in_the_users_cache(tmp_path):
  folder, part = begun(HOME=str(tmp_path))
  assert folder.startswith(f"{tmp_path}/.cache/synpo_jax/compiled/")
  assert os.path.isdir(folder) and part == "0.95"
  elsewhere = str(tmp_path / "xdg")
  assert begun(XDG_CACHE_HOME=elsewhere)[0].startswith(elsewhere)


def test_a_cache_that_is_named_or_not_wanted_is_none_of_ours(tmp_path):
  home = {"HOME": str(tmp_path)}
  assert begun("--nokeep_compiled", **home)[0] == "None"
  many = ("--coordinator=localhost:1", "--processes=2", "--process=0")
  assert begun(*many, **home)[0] == "None"
  named = begun(JAX_COMPILATION_CACHE_DIR="/mine", **home)
  assert named[0] == "/mine" and not os.listdir(tmp_path)
  (tmp_path / ".cache").write_text("")
  *none, said = begun(XLA_PYTHON_CLIENT_MEM_FRACTION="0.5", **home)
  assert none == ["None", "None"]
  assert said.startswith("compiled programs are not kept: ")


@pytest.mark.parametrize(
  ("told", "threads"),
  [
    ({"XLA_FLAGS": "--x=9 --xla_force_host_platform_device_count=80"}, "160"),
    ({"JAX_NUM_CPU_DEVICES": "70"}, "140"),
    ({"JAX_NUM_CPU_DEVICES": "70", "NPROC": "3"}, "3"),
    ({"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false"}, None),
  ],
)
def test_virtual_devices_have_two_threads_each(told, threads, monkeypatch):
  for name in (*starting.VIRTUAL, starting.THREADS):
    monkeypatch.setenv(name, told.get(name, ""))
    if name not in told:
      monkeypatch.delenv(name)
  starting.give_threads()
  assert os.environ.get(starting.THREADS) == threads


def test_processors_that_differ_have_caches_of_their_own(tmp_path):
  cpuinfo = tmp_path / "cpuinfo"
  names = set()
  for flags in ("sse avx", "sse avx avx512f"):
    cpuinfo.write_text(f"flags\t: {flags}\ncpu MHz\t: {len(names)}\n")
    names.add(starting.machine(str(cpuinfo)))
    cpuinfo.write_text(f"flags\t: {flags}\ncpu MHz\t: 2000\n")
    names.add(starting.machine(str(cpuinfo)))
  assert len(names) == 2
