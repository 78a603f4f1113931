"""Configs by name or path, assets from any folder."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from synpo_jax.runtime import shipped
from tests.support.paths import ROOT

OURS = ROOT / "synpo_jax"
VDC = ROOT / "configs" / "vdc.py"


@pytest.mark.parametrize("name", ("vdc", "vdc.py", "configs/vdc.py"))
def test_a_config_is_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert shipped.find_config(name) == VDC


def test_a_file_of_that_path_goes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  mine = pathlib.Path("configs/vdc.py")
  mine.parent.mkdir()
  mine.touch()
  assert shipped.find_config(str(mine)) == mine
  assert shipped.find_config("vdc") == VDC


@pytest.mark.parametrize(
  "name, near",
  (
    ("eval_vcd", "eval_vdd, eval_vdc, eval_vatex"),
    ("other/vdc.py", "vdc"),
    ("published", "caption, claims, eval_events"),  # no config
  ),
)
def test_a_misspelt_config_is_one_line_with_the_nearest(name, near):
  with pytest.raises(FileNotFoundError) as error:
    shipped.find_config(name)
  told = str(error.value)
  assert f"--config={name}: " in told and near in told and "\n" not in told


def test_assets_are_found_from_any_folder(tmp_path, monkeypatch):
  name = "synpo_jax/assets/tiny"
  assert shipped.find(name) == pathlib.Path(name)  # as given, at the root
  monkeypatch.chdir(tmp_path)
  assert shipped.find(name) == OURS / "assets" / "tiny"
  pathlib.Path(name).mkdir(parents=True)
  assert shipped.find(name) == pathlib.Path(name)
  assert shipped.find("runs/world") == pathlib.Path("runs/world")


def test_a_config_elsewhere_builds_on_ours_from_any_folder(
  tmp_path, monkeypatch
):
  mine = tmp_path / "mine.py"
  mine.write_text(
    "from configs import vdc\n\n\ndef get_config():\n"
    "  c = vdc.get_config()\n  c.epochs = 7\n  return c\n"
  )
  code = (
    "from synpo_jax.runtime import flags\nimport sys\n"
    "flags.flags.FLAGS(['x', '--config=mine.py'])\n"
    "print(flags.CONFIG.value.epochs, 'configs' in ' '.join(sys.path))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=tmp_path,
    env=os.environ | {"PYTHONPATH": str(_installed(tmp_path))},
    capture_output=True,
    text=True,
  )
  assert done.stdout == "7 False\n", done.stderr


def _installed(folder):
  """The package as an installation lays it, its configs within."""
  alone = folder / "site"
  unwanted = shutil.ignore_patterns("assets", "__pycache__")
  shutil.copytree(OURS, alone / "synpo_jax", ignore=unwanted)
  shutil.copytree(ROOT / "configs", alone / "synpo_jax" / "configs")
  return alone
