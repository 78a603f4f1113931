"""Tensors on disk, read one at a time.

A store has `shapes` (published name -> shape), `flax` (whose names and order
of axes it uses) and `read(name)`. Names have dots between their parts.
"""

import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import ml_dtypes
import numpy as np

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
