"""What the package brings along: configs by name, assets from any folder."""

import importlib.machinery
import importlib.util
import pathlib
import sys

from synpo_jax.runtime import buckets, hub, names

PACKAGE = pathlib.Path(__file__).parents[1]


def find(path: str | pathlib.Path) -> pathlib.Path:
  """`path`, or, where nothing lies there, the package's own file of that name.

  Configs write those as `synpo_jax/assets/tiny`, and records keep them so,
  whatever folder a command runs in. A model pinned by hub.pinned is its folder
  in the hub's cache; a URL is a path in a bucket.
  """
  if found := hub.cached(str(path)):
    return found
  path = buckets.at(path)
  own = PACKAGE.parent / path
  is_ours = path.parts[:1] == (PACKAGE.name,) and own.exists()
  return own if is_ours and not path.exists() else path


def find_config(name: str) -> pathlib.Path:
  """A config's file: by its path, or by its name among the package's own.

  `vdc`, `vdc.py` and `configs/vdc.py` are the package's, unless a file lies
  there. Raises FileNotFoundError, one line with the nearest names.
  """
  path, known = pathlib.Path(name), configs()
  if path.is_file():
    return path
  short = name.removeprefix("configs/").removesuffix(".py")
  if short in known:
    return known[short]
  raise FileNotFoundError(
    f"--config={name}: neither a file nor the name of a config, as "
    f"{names.nearest(short, known)}"
  )


def config_folder() -> pathlib.Path:
  """`configs`: in the package where it was installed, else beside it."""
  installed = PACKAGE / "configs"
  return installed if installed.is_dir() else PACKAGE.parent / "configs"


def make_configs_importable() -> None:
  """From now on `from configs import vdc` finds the package's own.

  From any folder, for configs of ours and for those that build on them. Only
  that name is made known: installed, the folder above holds `data`, `models`
  and more that other packages may be called.
  """
  spec = importlib.machinery.ModuleSpec("configs", None, is_package=True)
  spec.submodule_search_locations = [str(config_folder())]
  sys.modules["configs"] = importlib.util.module_from_spec(spec)


def configs() -> dict[str, pathlib.Path]:
  """The package's configs by name; what they share is none."""
  files = sorted(config_folder().glob("*.py"))
  return {
    path.stem: path
    for path in files
    if "\ndef get_config(" in path.read_text("utf-8")
  }
