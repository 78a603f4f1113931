"""Safetensors files: where each tensor lies, and how they are written."""

import contextlib
import json
import math
import pathlib
import tempfile
from collections.abc import Iterator

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from synpo_jax.runtime import buckets, json_file
from synpo_jax.runtime.terminal import first_line
from synpo_jax.weights import stores, weight_files
from synpo_jax.weights.stores import DTYPES, Span, Store

NAME = "model.safetensors"
MOST = 1 << 27  # bytes of a header; its library reads fewer


def find(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files that hold a folder's weights, [] where it has none of these."""
  return weight_files.listed(folder, NAME)


def open_folder(folder: pathlib.Path) -> Store:
  """The tensors of a folder's files as a store; raises as `spans` does."""
  return Store(str(folder), False, weight_files.gather(folder, NAME, spans))


def spans(file: pathlib.Path) -> dict[str, Span]:
  """Where each tensor of a safetensors file lies, in the header's order.

  The official reader checks the header, and we that no name stands twice,
  which it lets pass. Raises ValueError, one line that names the file.
  """
  try:
    with _outline(file) as local, safe_open(local, framework="np"):
      pass
  except (SafetensorError, OSError) as error:
    raise ValueError(
      f"{file}: not a safetensors file, or cut off ({first_line(error)}); "
      "fetch it again"
    ) from error
  with file.open("rb", buckets.HEADERS) as f:
    length = int.from_bytes(f.read(8), "little")
    header = json_file.parse(f.read(length), f"{file}: its header")
  header.pop("__metadata__", None)
  table = {}
  for name, entry in header.items():
    if entry["dtype"] not in DTYPES:
      raise ValueError(
        f"{file}: {name} has dtype {entry['dtype']}, only "
        f"{', '.join(DTYPES)} are read; save the model again in bfloat16"
      )
    start, shape = 8 + length + entry["data_offsets"][0], tuple(entry["shape"])
    table[name] = Span(file, name, start, shape, DTYPES[entry["dtype"]])
  return table


@contextlib.contextmanager
def _outline(file: pathlib.Path) -> Iterator[pathlib.Path]:
  """The file, or for one in a bucket its header before a hole of its size."""
  if not isinstance(file, buckets.BucketPath):
    yield file
    return
  size = file.stat().st_size
  length = int.from_bytes(file.part(0, min(size, 8)), "little")
  with tempfile.NamedTemporaryFile() as outline:
    outline.write(file.part(0, min(size, 8 + length, MOST)))
    outline.truncate(size)
    outline.flush()
    yield pathlib.Path(outline.name)


def write(file: pathlib.Path, shapes, dtype, tensors) -> None:
  """Writes `tensors` (in the order of `shapes`), one in memory at a time.

  Raises ValueError for NaN or infinity, naming file and tensor.
  """
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
    for (name, one), tensor in zip(table.items(), tensors, strict=True):
      tensor = np.ascontiguousarray(tensor, one.dtype)
      stores.check_finite(tensor, f"{file}: {name}")
      f.write(tensor.reshape(-1).view(np.uint8))
