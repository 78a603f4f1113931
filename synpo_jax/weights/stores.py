"""Tensors on disk, read one at a time.

Every tensor has `shape` and `read()`, wherever it lies; reading one refuses
NaN and infinity, which no model was ever trained to. Names have dots between
their parts.
"""

import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from synpo_jax.runtime import buckets

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
STRIP = 2**20  # elements looked at together
# The exponent bits of 16-bit floats: all ones is NaN or infinity. NumPy is
# told so because its own look at them is six times slower.
EXPONENTS = {DTYPES["BF16"]: 0x7F80, DTYPES["F16"]: 0x7C00}


class Store(NamedTuple):
  """The tensors of a part of a model, by published name.

  place: the folder, for messages. flax: whose names and order of axes these
  are. tensors: each has `shape` and `read()`.
  """

  place: str
  flax: bool
  tensors: Mapping

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Of all tensors, by name."""
    return {name: one.shape for name, one in self.tensors.items()}

  def read(self, name: str) -> np.ndarray:
    """One tensor; ValueError, naming it, for NaN or infinity in it."""
    return self.tensors[name].read()


def renamed(store: Store, rename: Callable[[str], str]) -> Store:
  """The same tensors under other names; ValueError where two become one."""
  tensors = {}
  for name, one in store.tensors.items():
    new = rename(name)
    if new in tensors:
      raise ValueError(
        f"{store.place}: {name} is there under an older name as well, {new}; "
        "one of the two must go"
      )
    tensors[new] = one
  return store._replace(tensors=tensors)


def in_memory(tree, place: str) -> Store:
  """A Flax port's `params` tree as a store."""
  tensors = {}
  for path, leaf in jax.tree.leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    tensors[name] = Held(place, name, leaf)
  return Store(place, True, tensors)


class Held(NamedTuple):
  """A tensor of a tree in memory."""

  place: str
  name: str
  array: np.ndarray

  @property
  def shape(self) -> tuple[int, ...]:
    """Of the tensor."""
    return tuple(self.array.shape)

  def read(self) -> np.ndarray:
    """The tensor, on the host."""
    return check_finite(np.asarray(self.array), f"{self.place}: {self.name}")


class Span(NamedTuple):
  """Bytes of a file that hold one tensor, or part of a large one."""

  file: pathlib.Path
  name: str
  offset: int
  shape: tuple[int, ...]
  dtype: np.dtype

  def read(self) -> np.ndarray:
    """The tensor; nothing else of the file is read."""
    flat = self._flat(0, math.prod(self.shape))
    return check_finite(flat.reshape(self.shape), f"{self.file}: {self.name}")

  def strips(self) -> Iterator[np.ndarray]:
    """The tensor flattened, STRIP elements at a time."""
    count = math.prod(self.shape)
    for start in range(0, count, STRIP):
      yield self._flat(start, min(STRIP, count - start))

  def _flat(self, start: int, count: int) -> np.ndarray:
    offset = self.offset + start * self.dtype.itemsize
    if isinstance(self.file, buckets.BucketPath):
      content = self.file.part(offset, count * self.dtype.itemsize)
      return np.frombuffer(content, self.dtype)
    return np.fromfile(self.file, self.dtype, count, offset=offset)


def equal(one: Span, other: Span) -> bool:
  """Whether two tensors hold the same numbers; neither is read whole."""
  if one.shape != other.shape:
    return False
  pairs = zip(one.strips(), other.strips(), strict=True)
  return all(np.array_equal(a, b) for a, b in pairs)


def check_finite(tensor: np.ndarray, place: str) -> np.ndarray:
  """The tensor; ValueError, naming `place`, for NaN or infinity in it."""
  if tensor.dtype.kind in "iub":
    return tensor
  flat = tensor.reshape(-1)
  bad = 0
  for start in range(0, flat.size, STRIP):
    strip = flat[start : start + STRIP]
    bad += strip.size - int(np.count_nonzero(_finite(strip)))
  if bad:
    raise ValueError(
      f"{place}: {bad:,} of {flat.size:,} values are NaN or infinite; get the "
      "file again where it was made, or train again from weights before that"
    )
  return tensor


def check_fits(tensor: np.ndarray, dtype, place: str) -> np.ndarray:
  """The tensor; ValueError, naming `place`, where a cast would overflow."""
  if tensor.dtype.kind in "iub" or not tensor.size:
    return tensor
  most = float(jnp.finfo(dtype).max)
  if most < float(jnp.finfo(tensor.dtype).max):
    largest = max(float(tensor.max()), -float(tensor.min()))
    if largest > most:
      raise ValueError(
        f"{place}: holds {largest:.4g}, and {jnp.dtype(dtype).name} ends at "
        f"{most:.4g}; set model.dtype to bfloat16 or float32"
      )
  return tensor


def _finite(strip: np.ndarray) -> np.ndarray:
  exponent = EXPONENTS.get(strip.dtype)
  if exponent is None:
    return np.isfinite(strip)
  return (strip.view(np.uint16) & exponent) != exponent
