"""`flax_model.msgpack` files, indexed without reading their arrays.

`flax.serialization` restores a whole file at once; here only the headers are
walked, and arrays are read one by one like those of safetensors.
"""

import math
import pathlib
from typing import NamedTuple

import ml_dtypes
import msgpack
import numpy as np

from synpo_jax.runtime import buckets
from synpo_jax.weights import weight_files
from synpo_jax.weights.stores import Span, Store

NAME = "flax_model.msgpack"
ARRAY = 1  # flax's extension code
CHUNKED = "__msgpack_chunked_array__"  # how flax splits arrays beyond 1 GB
MAPS = {*range(0x80, 0x90), 0xDE, 0xDF}
EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}  # marker -> bytes of its length
FIXED = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}  # marker -> length
BINARIES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
DTYPES = ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")
DEEPEST = 100  # maps within maps


class Chunks(NamedTuple):
  """An array that flax has cut up, in order."""

  shape: tuple[int, ...]
  spans: tuple[Span, ...]

  def read(self) -> np.ndarray:
    """The tensor; nothing else of the file is read."""
    parts = [span.read().reshape(-1) for span in self.spans]
    return np.concatenate(parts).reshape(self.shape)


def open_folder(folder: pathlib.Path) -> Store:
  """A store over a folder's Flax checkpoint, in one file or several.

  Raises ValueError, one line that names the file, for what flax never writes.
  """
  return Store(str(folder), True, weight_files.gather(folder, NAME, _arrays))


def _arrays(file: pathlib.Path) -> dict[str, Span | Chunks]:
  """The tensors of one file by name."""
  with file.open("rb", buckets.HEADERS) as f:
    values = _node(f, file, "")
  arrays = {k: v for k, v in values.items() if isinstance(v, Span)}
  chunked = [k for k in values if k.endswith("." + CHUNKED)]
  chunks = {k.removesuffix("." + CHUNKED): [] for k in chunked}
  whole = {}
  for name, span in arrays.items():
    owner = name.rpartition(".chunks.")[0]
    if owner in chunks:  # in the file's order, which is theirs
      chunks[owner].append(span)
    else:
      whole[name] = span
  for name, spans in chunks.items():
    shape = _sizes(values, name)
    held = sum(math.prod(span.shape) for span in spans)
    if not _is_shape(shape) or math.prod(shape) != held:
      raise ValueError(f"{file}: the chunks of {name} do not make {shape}")
    whole[name] = Chunks(shape, tuple(spans))
  return whole


def _sizes(values, name) -> tuple[int, ...]:
  prefix = f"{name}.shape."
  return tuple(v for k, v in values.items() if k.startswith(prefix))


def _is_shape(shape) -> bool:
  return all(type(size) is int and size >= 0 for size in shape)


def _node(f, file, name, depth=0) -> dict:
  """{dotted name: Span or scalar} of the value at the file's position."""
  marker = f.read(1)
  if not marker:
    raise ValueError(f"{file}: cut off; download it again")
  f.seek(-1, 1)
  if marker[0] in MAPS:
    return _map(f, file, name, depth)
  if marker[0] in EXTENSIONS or marker[0] in FIXED:
    return {name: _array(f, file, name)}
  return {name: _small(f, file, "unpack")}


def _map(f, file, name, depth) -> dict:
  if depth == DEEPEST:
    raise ValueError(f"{file}: maps within maps, {DEEPEST} deep; no weights")
  inner = {}
  for _ in range(_small(f, file, "read_map_header")):
    key = _small(f, file, "unpack")
    if not isinstance(key, str):
      raise ValueError(f"{file}: {key!r} is no name of a tensor")
    key = key.replace("/", ".")
    found = _node(f, file, f"{name}.{key}" if name else key, depth + 1)
    if twice := sorted(found.keys() & inner.keys()):
      raise ValueError(f"{file}: {twice[0]} stands twice")
    inner |= found
  return inner


def _small(f, file, what):
  """Decodes one short value (or a map's header) where the file stands."""
  start = f.tell()
  unpacker = msgpack.Unpacker(raw=False)
  unpacker.feed(f.read(512))
  try:
    value = getattr(unpacker, what)()
  except (msgpack.exceptions.UnpackException, ValueError) as error:
    why = f"cut off, or no weights of flax ({error!r})"
    raise ValueError(f"{file}: {why}; download it again") from error
  f.seek(start + unpacker.tell())
  return value


def _array(f, file, name) -> Span:
  """Steps over an array: its payload is (shape, dtype, bytes)."""
  marker = f.read(1)[0]
  length = FIXED.get(marker)
  if length is None:
    length = int.from_bytes(f.read(EXTENSIONS[marker]), "big")
  code, start = f.read(1), f.tell()
  if code != bytes([ARRAY]):
    raise ValueError(f"{file}: {name} is no array (extension {code.hex()})")
  f.seek(start + 1)  # past the mark of a list of three
  shape = _small(f, file, "unpack")
  dtype = _dtype(_small(f, file, "unpack"))
  binary = f.read(1)
  if not (isinstance(shape, list) and _is_shape(shape) and dtype) or (
    not binary or binary[0] not in BINARIES
  ):
    raise ValueError(f"{file}: {name} is no array that flax writes")
  f.seek(BINARIES[binary[0]], 1)
  span = Span(file, name, f.tell(), tuple(shape), dtype)
  stop = span.offset + math.prod(span.shape) * span.dtype.itemsize
  if stop != start + length or stop > file.stat().st_size:
    raise ValueError(f"{file}: cut off within {name}; download it again")
  f.seek(stop)
  return span


def _dtype(name) -> np.dtype | None:
  if name == "bfloat16":
    return np.dtype(ml_dtypes.bfloat16)
  return np.dtype(name) if name in DTYPES else None
