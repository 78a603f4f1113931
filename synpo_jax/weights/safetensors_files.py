"""Safetensors files: where each tensor lies, and how they are written."""

import json
import math
import pathlib

import jax
import numpy as np

from synpo_jax.weights import json_file
from synpo_jax.weights.stores import DTYPES, Span, Store


def find(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files that hold a folder's weights, [] where it has none of these."""
  return listed(folder, "model.safetensors")


def listed(folder: pathlib.Path, name: str) -> list[pathlib.Path]:
  """The file of that name, or the files that its index lists."""
  index = folder / f"{name}.index.json"
  if index.exists():
    table = json_file.read(index)
    if "weight_map" not in table:
      raise ValueError(f"{index}: no weight_map in it")
    names = set(table["weight_map"].values())
    return [folder / file for file in sorted(names)]
  return [folder / name] if (folder / name).exists() else []


def open_files(files: list[pathlib.Path]) -> Store:
  """The tensors of some files as a store."""
  tensors = {}
  for file in files:
    tensors |= spans(file)
  shapes = {name: span.shape for name, span in tensors.items()}
  return Store(
    str(files[0].parent), False, shapes, lambda name: tensors[name].read()
  )


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
  table = {}
  for name, entry in header.items():
    start, stop = entry["data_offsets"]
    if 8 + length + stop > size:
      raise ValueError(f"{file}: cut off within {name}; download it again")
    if entry["dtype"] not in DTYPES:
      raise ValueError(f"{file}: {name} has dtype {entry['dtype']}")
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    table[name] = Span(file, 8 + length + start, shape, dtype)
  return table


def write(file: pathlib.Path, shapes, dtype, tensors) -> None:
  """Writes `tensors` (in the order of `shapes`), one in memory at a time."""
  table = {n: jax.ShapeDtypeStruct(s, dtype) for n, s in shapes.items()}
  write_as(file, table, tensors)


def write_as(file: pathlib.Path, table, tensors) -> None:
  """As `write`; `table` maps names to what has shape and dtype."""
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
