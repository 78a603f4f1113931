"""Which files hold a folder's weights, and whether its index says so."""

import pathlib
from collections.abc import Callable, Mapping

from synpo_jax.runtime import json_file


def listed(folder: pathlib.Path, name: str) -> list[pathlib.Path]:
  """The file of that name, or the files that its index lists; [] for none.

  Raises ValueError for an index that is no table of files beside it.
  """
  index = _index(folder, name)
  if index.exists():
    return [folder / file for file in sorted(set(_table(index).values()))]
  return [folder / name] if (folder / name).exists() else []


def gather(
  folder: pathlib.Path, name: str, read: Callable[[pathlib.Path], Mapping]
) -> dict:
  """{tensor name: what `read` finds of it} in a folder's files.

  Raises ValueError, naming file and tensor, for a tensor that lies in two
  files, or not in the one that the index says; FileNotFoundError for a file
  that is not there.
  """
  index, found, where = _index(folder, name), {}, {}
  for file in listed(folder, name):
    if not file.exists():
      raise FileNotFoundError(f"{file}: named in the index, but not there")
    for tensor, value in read(file).items():
      if tensor in found:
        raise ValueError(f"{file}: {tensor} is in {where[tensor]} as well")
      found[tensor], where[tensor] = value, file.name
  if index.exists():
    for tensor, file in _table(index).items():
      _check_place(index, tensor, file, where)
  return found


def _check_place(index, tensor, file, where) -> None:
  """Raises ValueError unless a tensor lies where the index says."""
  actual = where.get(tensor.replace("/", "."))  # slashes are Flax's
  if actual == file:
    return
  instead = f"it is in {actual}" if actual else "no file holds it"
  raise ValueError(
    f"{index}: says that {tensor} is in {file}, but {instead}; index and files "
    "are of different downloads, fetch all of them again"
  )


def _index(folder: pathlib.Path, name: str) -> pathlib.Path:
  return folder / f"{name}.index.json"


def _table(index: pathlib.Path) -> dict[str, str]:
  """The `weight_map` of an index: {tensor name: file name}."""
  table = json_file.read(index).get("weight_map")
  if not isinstance(table, dict) or not table:
    raise ValueError(f"{index}: no weight_map in it, a table of tensors")
  for tensor, file in table.items():
    # A link or a folder on the way could lead anywhere.
    plain = isinstance(file, str) and pathlib.PurePath(file).name == file
    if not plain or file in ("", ".", "..") or "\\" in file or "\0" in file:
      raise ValueError(
        f"{index}: {tensor[:100]!r} is said to be in {file!r}, which is no "
        "name of a file beside it"
      )
  return table
