"""The package as pip installs it, used from a folder that is not this one."""

import os
import pathlib
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from synpo_jax.data import pairs, text
from synpo_jax.weights import config_reading, fingerprint
from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
TINY = "synpo_jax/assets/tiny"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  """The wheel, unpacked; built outside the checkout, which stays clean."""
  source, made = (tmp_path_factory.mktemp(name) for name in ("source", "made"))
  named = ("pyproject.toml", "README.md", "LICENSE", "requirements*.txt")
  for path in (path for name in named for path in ROOT.glob(name)):
    shutil.copy(path, source)
  no_code = shutil.ignore_patterns("__pycache__")
  for name in ("synpo_jax", "configs"):
    shutil.copytree(ROOT / name, source / name, ignore=no_code)
  pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", made]
  subprocess.run([*pip, "--no-build-isolation", source], check=True)
  (wheel,) = made.glob("*.whl")
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(made / "site")
  return made / "site"


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_the_package_and_no_other(installed):
  def files(root):
    found = (p.relative_to(root) for p in root.rglob("*") if p.is_file())
    return {p for p in found if "__pycache__" not in p.parts}

  configs = {"configs" / path for path in files(ROOT / "configs")}
  wanted = files(ROOT / "synpo_jax") | configs
  assert files(installed / "synpo_jax") == wanted
  tops = {path.name for path in installed.iterdir()}
  assert {name.split("-")[0] for name in tops} == {"synpo_jax"}


@pytest.mark.slow
def test_a_script_starts_the_installed_command_from_any_folder(
  installed, tmp_path
):
  module = PROJECT["project"]["scripts"]["synpo-preflight"].split(":")[0]
  script = tmp_path / "synpo-preflight"
  script.write_text(f"from {module} import main\nmain()\n")
  done = subprocess.run(
    [sys.executable, script, "--config=vdc:loss=dpo", "--workdir=run"],
    cwd=tmp_path,
    env=os.environ | {"PYTHONPATH": str(installed)},
    capture_output=True,
    text=True,
  )
  assert "ready: 1 processes, 1 devices" in done.stdout, done.stderr


def test_every_command_has_a_script():
  scripts = PROJECT["project"]["scripts"]
  assert all(target.endswith(":main") for target in scripts.values())
  modules = {target.split(":")[0] for target in scripts.values()}
  files = (ROOT / "synpo_jax").glob("[!_]*.py")
  commands = {f"synpo_jax.{path.stem}" for path in files}
  assert modules == {"synpo_jax.world.__main__", *commands}
  for name, target in scripts.items():
    stem = target.split(":")[0].removeprefix("synpo_jax.").split(".")[0]
    assert name == "synpo-" + stem.removesuffix("_model").replace("_", "-")


def test_shipped_files_are_read_from_any_folder(tmp_path, monkeypatch):
  here = fingerprint.captioner(TINY, "")
  monkeypatch.chdir(tmp_path)
  assert fingerprint.captioner(TINY, "") == here
  sizes = config_reading.captioner_config(TINY)
  assert len(text.load_tokenizer(TINY)) == sizes.decoder.vocab
  path = pathlib.Path(TINY, "pairs.jsonl")
  assert pairs.read_pairs(path, question="Describe it.").pairs
