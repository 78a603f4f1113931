"""`flax_model.msgpack` files, indexed without reading their arrays.

`flax.serialization` restores a whole file at once; here only the headers are
walked, and arrays are read one by one like those of safetensors.
"""

import math
import pathlib

import ml_dtypes
import msgpack
import numpy as np

from synpo_jax.weights.stores import Span, Store

ARRAY = 1  # flax's extension code
CHUNKED = "__msgpack_chunked_array__"  # how flax splits arrays beyond 1 GB
MAPS = {*range(0x80, 0x90), 0xDE, 0xDF}
EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}  # marker -> bytes of its length
FIXED = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}  # marker -> length
BINARIES = {0xC4: 1, 0xC5: 2, 0xC6: 4}


def open_files(files: list[pathlib.Path]) -> Store:
  """A store over Flax checkpoint files, sharded or not."""
  values = {}
  for file in files:
    with file.open("rb") as f:
      values |= _node(f, file, "")
  arrays = {k: v for k, v in values.items() if isinstance(v, Span)}
  chunked = [k for k in values if k.endswith("." + CHUNKED)]
  chunks = {k.removesuffix("." + CHUNKED): [] for k in chunked}
  shapes = {name: _sizes(values, name) for name in chunks}
  for name, span in arrays.items():
    owner = name.rpartition(".chunks.")[0]
    if owner in chunks:  # in the file's order, which is theirs
      chunks[owner].append(span)
    else:
      shapes[name], chunks[name] = span.shape, [span]

  def read(name):
    parts = [span.read().reshape(-1) for span in chunks[name]]
    flat = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return flat.reshape(shapes[name])

  return Store(str(files[0].parent), True, shapes, read)


def _sizes(values, name) -> tuple[int, ...]:
  prefix = f"{name}.shape."
  return tuple(v for k, v in values.items() if k.startswith(prefix))


def _node(f, file, name) -> dict:
  """{dotted name: Span or scalar} of the value at the file's position."""
  marker = f.read(1)
  if not marker:
    raise ValueError(f"{file}: cut off; download it again")
  f.seek(-1, 1)
  if marker[0] in MAPS:
    inner = {}
    for _ in range(_small(f, "read_map_header")):
      key = _small(f, "unpack").replace("/", ".")
      inner |= _node(f, file, f"{name}.{key}" if name else key)
    return inner
  if marker[0] in EXTENSIONS or marker[0] in FIXED:
    return {name: _array(f, file, name)}
  return {name: _small(f, "unpack")}


def _small(f, what):
  """Decodes one short value (or a map's header) where the file stands."""
  start = f.tell()
  unpacker = msgpack.Unpacker(raw=False)
  unpacker.feed(f.read(512))
  try:
    value = getattr(unpacker, what)()
  except msgpack.exceptions.UnpackException as error:
    raise ValueError(f"{f.name}: cut off; download it again") from error
  f.seek(start + unpacker.tell())
  return value


def _array(f, file, name) -> Span:
  """Steps over an array: its payload is (shape, dtype, bytes)."""
  marker = f.read(1)[0]
  length = FIXED.get(marker)
  if length is None:
    length = int.from_bytes(f.read(EXTENSIONS[marker]), "big")
  code, start = f.read(1)[0], f.tell()
  if code != ARRAY:
    raise ValueError(f"{file}: {name} is no array (extension {code})")
  f.seek(start + 1)  # past the mark of a list of three
  shape, dtype = _small(f, "unpack"), _small(f, "unpack")
  f.seek(BINARIES[f.read(1)[0]], 1)
  span = Span(file, f.tell(), tuple(shape), _dtype(dtype))
  stop = span.offset + math.prod(span.shape) * span.dtype.itemsize
  if stop != start + length or stop > file.stat().st_size:
    raise ValueError(f"{file}: cut off within {name}; download it again")
  f.seek(stop)
  return span


def _dtype(name: str) -> np.dtype:
  return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
