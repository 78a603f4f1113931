"""A published checkpoint again, with what a run learned added to it."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from flax import traverse_util

from synpo_jax.models.config import CaptionerConfig
from synpo_jax.weights import safetensors_files, tensor_names
from synpo_jax.weights.learned import Learned
from synpo_jax.weights.tensor_kinds import Leaf

# What a folder holds besides weights: configs, tokenizer, licence.
WORDS = (".json", ".jinja", ".model", ".txt", ".tiktoken")


class Change(NamedTuple):
  """What one tensor learned: a new value, an adapter on top of it, or both."""

  leaf: Leaf
  value: np.ndarray | None
  pair: tuple[np.ndarray, np.ndarray] | None  # a [in, r], b [r, out]
  scale: float  # of a @ b

  @property
  def shape(self) -> tuple[int, ...]:
    """Of the published tensor."""
    ours = self.value
    if self.pair is not None:
      a, b = self.pair
      ours = np.broadcast_to(np.float32(0), (a.shape[0], b.shape[1]))
    return self.leaf.to_torch(ours).shape

  def apply(self, old: np.ndarray) -> np.ndarray:
    """The new tensor in torch's order of axes, of the old one's dtype.

    Sums are formed in float32.
    """
    new = old if self.value is None else self.leaf.to_torch(self.value)
    if self.pair is not None:
      a, b = self.pair
      delta = (a @ b) * np.float32(self.scale)
      new = new.astype(np.float32) + self.leaf.to_torch(delta)
    return new.astype(old.dtype)


def write(
  base: pathlib.Path,
  out: pathlib.Path,
  config: CaptionerConfig,
  learned: Learned,
) -> int:
  """Writes `base` with its changes into `out`; returns how many there are.

  base: safetensors under torch's names, in one file or several. Raises
  ValueError for a change that has no place there, before anything is written.
  """
  changed = changes(learned, config)
  parts = sorted({leaf.part for leaf in tensor_names.leaves(config)})
  files = {part: safetensors_files.find(base / part) for part in parts}
  _check(base, changed, files, config)
  for part in parts:
    (out / part).mkdir(parents=True, exist_ok=True)
    copy_words(base / part, out / part)
    for file in files[part]:

      def change(name, part=part):
        name = tensor_names.published(name, config)
        return changed.get((part, tensor_names.tied(name, config)))

      _rewrite(file, out / part / file.name, change)
    for index in (base / part).glob("*.safetensors.index.json"):
      _copy(index, out / part)
  return len(changed)


def changes(
  learned: Learned, config: CaptionerConfig
) -> dict[tuple[str, str], Change]:
  """{(part, published name): what it learned}.

  Raises ValueError for something learned that the model does not have.
  """
  values = traverse_util.flatten_dict(learned.params, sep="/")
  pairs = _pairs(learned.lora)
  scale = learned.config.alpha / learned.config.rank if pairs else 0.0
  changed = {}
  for leaf in tensor_names.leaves(config):
    value, pair = values.pop(leaf.path, None), pairs.pop(leaf.path, None)
    if value is None and pair is None:
      continue
    for i, name in enumerate(leaf.names(flax=False)):
      at, on = (
        (i, i - first_adapted(leaf, pair)) if leaf.stacked else (..., ...)
      )
      new = None if value is None else np.asarray(value[at])
      own = None
      if pair is not None and (on is ... or on >= 0):
        own = tuple(np.asarray(matrix[on]) for matrix in pair)
      if new is not None or own is not None:
        changed[leaf.part, name] = Change(leaf, new, own, scale)
  if values or pairs:
    raise ValueError(
      f"the run trained {', '.join([*values, *pairs][:3])}, which its "
      "checkpoint does not have"
    )
  return changed


def first_adapted(leaf: Leaf, pair: tuple | None) -> int:
  """The first layer of a stack that a pair (a, b) of stacks is of."""
  return len(leaf.stems) - len(pair[0]) if pair else 0


def _pairs(lora: dict) -> dict[str, tuple]:
  """{path of the adapted kernel: (a, b)}."""
  flat = traverse_util.flatten_dict(lora, sep="/")
  stems = {path.rpartition("/")[0] for path in flat}
  return {f"{s}/kernel": (flat[f"{s}/a"], flat[f"{s}/b"]) for s in stems}


def _check(base, changed, files, config) -> None:
  """Every change has a tensor of its shape."""
  shapes = {
    (part, tensor_names.published(name, config)): shape
    for part in files
    for name, shape in safetensors_files.open_folder(base / part).shapes.items()
  }
  for (part, name), change in changed.items():
    place = f"{base / part}: {name}"
    if (part, name) not in shapes:
      raise ValueError(f"{place}: no such tensor, but the run trained it")
    if change.shape != shapes[part, name]:
      raise ValueError(
        f"{place} is {shapes[part, name]}, the run trained {change.shape}"
      )


def _rewrite(file, target, change: Callable[[str], Change | None]) -> None:
  """One file again, tensor by tensor."""
  spans = safetensors_files.spans(file)

  def tensors():
    for name, span in spans.items():
      mine = change(name)
      yield span.read() if mine is None else mine.apply(span.read())

  safetensors_files.write_as(target, spans, tensors())


def copy_words(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies what is no weight and not yet there."""
  for file in sorted(source.iterdir()):
    plain = file.suffix in WORDS and not file.name.endswith(".index.json")
    if plain and file.is_file() and not (target / file.name).exists():
      _copy(file, target)


def _copy(file: pathlib.Path, folder: pathlib.Path) -> None:
  (folder / file.name).write_bytes(file.read_bytes())
