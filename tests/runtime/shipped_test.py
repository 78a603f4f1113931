"""Configs by name or path, assets from any folder."""

import pathlib

import pytest

from synpo_jax.runtime import shipped
from tests.support.paths import ROOT

OURS = ROOT / "synpo_jax"


@pytest.mark.parametrize(
  "name", ("vdc", "vdc.py", "configs/vdc.py", "synpo_jax/configs/vdc.py")
)
def test_a_config_is_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert shipped.find_config(name) == OURS / "configs" / "vdc.py"


def test_a_file_of_that_path_goes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  mine = pathlib.Path("configs/vdc.py")
  mine.parent.mkdir()
  mine.touch()
  assert shipped.find_config(str(mine)) == mine
  assert shipped.find_config("vdc") == OURS / "configs" / "vdc.py"


@pytest.mark.parametrize(
  "name, near",
  (
    ("eval_vcd", "eval_vdd, eval_vdc, eval_vatex"),
    ("other/vdc.py", "vdc"),
    ("published", "caption, claims, eval_preference"),  # no config
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
