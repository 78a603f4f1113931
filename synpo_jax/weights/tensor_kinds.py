"""One array of ours and the published tensors it is made of.

A leaf is one published tensor, or a stack of one per layer. Torch checkpoints
and Transformers' Flax ports differ in the last part of a name and in the
order of axes; `KINDS` says how.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Kind(NamedTuple):
  """How one sort of tensor is published.

  `torch` and `flax` end its name; `to_ours` and `to_torch` reorder a torch
  tensor's axes; a Flax tensor is in our order unless `flax_reorders`.
  """

  torch: str
  flax: str
  to_ours: Callable = lambda x: x
  to_torch: Callable = lambda x: x
  flax_reorders: bool = False


KINDS = {
  "linear": Kind(".weight", ".kernel", np.transpose, np.transpose),
  "conv": Kind(
    ".weight",
    ".kernel",
    lambda x: np.transpose(x, (2, 3, 1, 0)),
    lambda x: np.transpose(x, (3, 2, 0, 1)),
  ),
  "embedding": Kind(".weight", ".embedding"),
  "rms": Kind(".weight", ".weight"),
  "norm": Kind(".weight", ".scale"),
  "conv3": Kind(
    ".weight",
    ".kernel",
    lambda x: np.transpose(x, (2, 3, 4, 1, 0)),
    lambda x: np.transpose(x, (4, 3, 0, 1, 2)),
  ),
  "bias": Kind(".bias", ".bias"),
  "raw": Kind("", ""),
  "table": Kind("", "", lambda x: x[0], lambda x: x[None], True),
  "token": Kind("", "", lambda x: x[0, 0], lambda x: x[None, None], True),
}


class Leaf(NamedTuple):
  """One array of ours: `path` in the tree, where it is published.

  part: the folder ("" is the root). stems: the name less its end, one for
  each layer of a stack. kind: a key of `KINDS`.
  """

  path: str
  part: str
  stems: tuple[str, ...]
  kind: str
  stacked: bool

  def names(self, flax: bool) -> list[str]:
    """Published names, dots between the parts."""
    end = KINDS[self.kind].flax if flax else KINDS[self.kind].torch
    return [stem + end for stem in self.stems]

  def from_published(self, tensor, flax: bool) -> np.ndarray:
    """One published tensor, its axes in our order."""
    kind = KINDS[self.kind]
    return kind.to_ours(tensor) if kind.flax_reorders or not flax else tensor

  def to_torch(self, tensor) -> np.ndarray:
    """One tensor of ours, its axes in torch's order."""
    return KINDS[self.kind].to_torch(tensor)

  def published_shape(self, shape, flax: bool) -> tuple[int, ...]:
    """The shape of one published tensor of a leaf of `shape`."""
    shape = shape[1:] if self.stacked else shape
    if flax and not KINDS[self.kind].flax_reorders:
      return shape
    return self.to_torch(np.broadcast_to(np.zeros(()), shape)).shape


def linear(path, part, stem, biased, layers=0) -> list[Leaf]:
  """Kernel, and bias if there is one, of a linear layer or a stack of them."""
  leaves = [stack(f"{path}/kernel", part, stem, "linear", layers)]
  if biased:
    leaves.append(stack(f"{path}/bias", part, stem, "bias", layers))
  return leaves


def norm(path, part, stem, layers=0) -> list[Leaf]:
  """Scale and bias of a layer norm or a stack of them."""
  return [
    stack(f"{path}/scale", part, stem, "norm", layers),
    stack(f"{path}/bias", part, stem, "bias", layers),
  ]


def single(path, part, stem, kind) -> Leaf:
  """One tensor of a kind in `KINDS`."""
  return Leaf(path, part, (stem,), kind, False)


def stack(path, part, stem, kind, layers) -> Leaf:
  """`layers` tensors, or one tensor when it is 0."""
  if not layers:
    return single(path, part, stem, kind)
  stems = tuple(stem.format(i) for i in range(layers))
  return Leaf(path, part, stems, kind, True)
