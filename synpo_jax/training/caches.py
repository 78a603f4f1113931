"""Which work a run does once: the `cache` section of its config."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from synpo_jax import losses
from synpo_jax.data import pipeline
from synpo_jax.training import (
  feature_cache,
  pair_logps,
  reference_cache,
  update,
)


class Caches(NamedTuple):
  """Data to the same data with what is cached; they may change nothing."""

  features: Callable[[pipeline.Data], pipeline.Data]
  references: Callable[[pipeline.Data], pipeline.Data]

  def __call__(self, data: pipeline.Data) -> pipeline.Data:
    """With both."""
    return self.references(self.features(data))


def make(c, model, variables, mesh, reference) -> Caches:
  """The caches that a config asks for and its model and loss can use.

  variables: the weights at the start, also of a run that is continued; what
  trains may be among them. reference: `params` of the reference. Raises
  ValueError for cached features of a tower that trains, and for a loss whose
  reference would change with the weights because it is not cached.
  """
  params = variables["params"]
  trained, _ = update.split(variables, c.trainable)
  learned = trained["params"] if "params" in trained else {}
  features = references = _as_it_is
  if keeps_features(c, model):
    if "tower" in learned:
      raise ValueError(
        f"cache.features needs a frozen tower, trainable={c.trainable!r} "
        "trains it; set cache.features=False"
      )
    features = feature_cache.make(
      model,
      params["tower"],
      c.data.cache,
      frames_at_once=c.cache.frames_at_once,
      verify=c.cache.verify,
    )
  loss = losses.make(**c.loss.to_dict())
  needed = loss.needs_reference
  if needed and learned and not c.cache.references:
    raise ValueError(
      f"loss {c.loss.name} compares with the weights at the start, and "
      f"trainable={c.trainable!r} changes {', '.join(learned)}; set "
      "cache.references=True, which keeps what they say of every pair"
    )
  if needed and c.cache.references:
    scoring = pair_logps.make_scoring(**c.step, mesh=mesh)
    references = reference_cache.make(
      model,
      reference,
      c.data.cache,
      mesh,
      scoring,
      verify=c.cache.verify,
      ld_alpha=loss.ld_alpha,
    )
  return Caches(features, references)


def keeps_features(c, model) -> bool:
  """Whether a run reads what its tower computes from a cache.

  Not where every layer of the tower has an adapter: what is below them, the
  embedded patches, takes more room than the frames and nothing to compute.
  """
  sees = model.config.tower is not None
  return c.cache.features and sees and model.split != 0


def lay_aside(c, model, frozen: dict) -> tuple[dict, dict]:
  """(what updates read of the frozen weights, the tower if they read none).

  They do without it where they read its features and it has no adapter.
  frozen: as update.split gives them, arrays or shapes.
  """
  if not keeps_features(c, model) or model.split is not None:
    return frozen, {}
  params = dict(frozen["params"])
  tower = params.pop("tower")
  return frozen | {"params": params}, tower


def let_go(weights: dict) -> None:
  """Takes arrays off their devices, whoever still has a name for them."""
  for leaf in jax.tree.leaves(weights):
    leaf.delete()


def _as_it_is(data: pipeline.Data) -> pipeline.Data:
  return data
