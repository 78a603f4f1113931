"""Tensors on disk, read one at a time.

A store has `shapes` (published name -> shape), `flax` (whose names and order
of axes it uses) and `read(name)`. Names have dots between their parts.
"""

import json
import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import ml_dtypes
import numpy as np

from synpo_jax.weights import json_file

DTYPES = {
  "F64": np.dtype("float64"),
  "F32": np.dtype("float32"),
  "F16": np.dtype("float16"),
  "BF16": np.dtype(ml_dtypes.bfloat16),
  "I64": np.dtype("int64"),  # the rest: tables that no model computes with
  "I32": np.dtype("int32"),
  "U8": np.dtype("uint8"),
  "BOOL": np.dtype("bool"),
}


class Store(NamedTuple):
  """Where a part of a model is published, and how to read it."""

  place: str
  flax: bool
  shapes: dict[str, tuple[int, ...]]
  read: Callable[[str], np.ndarray]


def open_folder(folder: pathlib.Path) -> Store:
  """The weights of one folder, safetensors before Flax msgpack.

  Raises FileNotFoundError naming the files looked for, and ValueError for a
  folder that has pickled weights only.
  """
  for name, open_files in (
    ("model.safetensors", _safetensors),
    ("flax_model.msgpack", _msgpack),
  ):
    if files := _files(folder, name):
      return open_files(files)
  if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
    raise ValueError(
      f"{folder} has pickled weights only, which can run code when read; "
      "convert them where you trust them: load the model with transformers "
      "and call save_pretrained(folder, safe_serialization=True)"
    )
  raise FileNotFoundError(
    f"{folder}: no model.safetensors, model.safetensors.index.json or "
    "flax_model.msgpack there"
  )


def safetensors_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files that hold a folder's weights, [] where it has none of these."""
  return _files(folder, "model.safetensors")


def _files(folder, name) -> list[pathlib.Path]:
  """The file of that name, or the files that its index lists."""
  index = folder / f"{name}.index.json"
  if index.exists():
    table = json_file.read(index)
    if "weight_map" not in table:
      raise ValueError(f"{index}: no weight_map in it")
    listed = set(table["weight_map"].values())
    return [folder / file for file in sorted(listed)]
  return [folder / name] if (folder / name).exists() else []


def renamed(store: Store, rename: Callable[[str], str]) -> Store:
  """The same tensors under other names."""
  old = {rename(name): name for name in store.shapes}
  shapes = {new: store.shapes[name] for new, name in old.items()}
  return store._replace(shapes=shapes, read=lambda new: store.read(old[new]))


def in_memory(tree, place: str) -> Store:
  """A Flax port's `params` tree as a store."""
  flat = {
    jax.tree_util.keystr(path, simple=True, separator="."): leaf
    for path, leaf in jax.tree.leaves_with_path(tree)
  }
  shapes = {name: tuple(leaf.shape) for name, leaf in flat.items()}
  return Store(place, True, shapes, lambda name: np.asarray(flat[name]))


class Span(NamedTuple):
  """Bytes of a file that hold one tensor, or part of a large one."""

  file: pathlib.Path
  offset: int
  shape: tuple[int, ...]
  dtype: np.dtype

  def read(self) -> np.ndarray:
    """The tensor; nothing else of the file is read."""
    count = math.prod(self.shape)
    flat = np.fromfile(self.file, self.dtype, count, offset=self.offset)
    return flat.reshape(self.shape)


def _safetensors(files) -> Store:
  found = {}
  for file in files:
    found |= spans(file)
  shapes = {name: span.shape for name, span in found.items()}
  return Store(
    str(files[0].parent), False, shapes, lambda name: found[name].read()
  )


def _msgpack(files) -> Store:
  from synpo_jax.weights import flax_files

  return flax_files.open_files(files)


def spans(file: pathlib.Path) -> dict[str, Span]:
  """Where each tensor of a safetensors file lies, in the file's order.

  Raises ValueError for a file that is cut off.
  """
  if not file.exists():
    raise FileNotFoundError(f"{file}: named in the index, but not there")
  size = file.stat().st_size
  with file.open("rb") as f:
    length = int.from_bytes(f.read(8), "little")
    if length > size - 8:
      raise ValueError(f"{file}: not a safetensors file, or cut off")
    try:
      header = json.loads(f.read(length))
    except ValueError as error:
      raise ValueError(f"{file}: its header is no JSON ({error})") from error
  header.pop("__metadata__", None)
  found = {}
  for name, entry in header.items():
    start, stop = entry["data_offsets"]
    if 8 + length + stop > size:
      raise ValueError(f"{file}: cut off within {name}; download it again")
    if entry["dtype"] not in DTYPES:
      raise ValueError(f"{file}: {name} has dtype {entry['dtype']}")
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    found[name] = Span(file, 8 + length + start, shape, dtype)
  return found


def write_safetensors(file: pathlib.Path, shapes, dtype, tensors) -> None:
  """Writes `tensors` (in the order of `shapes`), one in memory at a time."""
  table = {n: jax.ShapeDtypeStruct(s, dtype) for n, s in shapes.items()}
  write_as(file, table, tensors)


def write_as(file: pathlib.Path, table, tensors) -> None:
  """As `write_safetensors`; `table` maps names to what has shape and dtype."""
  header, offset = {"__metadata__": {"format": "pt"}}, 0
  for name, one in table.items():
    code = next(c for c, d in DTYPES.items() if d == np.dtype(one.dtype))
    stop = offset + math.prod(one.shape) * np.dtype(one.dtype).itemsize
    span = {"dtype": code, "shape": list(one.shape)}
    header[name] = span | {"data_offsets": [offset, stop]}
    offset = stop
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)
  with file.open("wb") as f:
    f.write(len(text).to_bytes(8, "little") + text)
    for one, tensor in zip(table.values(), tensors, strict=True):
      np.ascontiguousarray(tensor, one.dtype).tofile(f)
