"""Which work a run does once: the `cache` section of its config."""

from collections.abc import Callable
from typing import NamedTuple

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


def make(c, model, variables, mesh) -> Caches:
  """The caches that a config asks for and its model and loss can use.

  Raises ValueError for a cache of what training changes.
  """
  params = variables["params"]
  trained, _ = update.split(variables, c.trainable)
  learned = trained["params"] if "params" in trained else {}
  features = references = _as_it_is
  if c.cache.features and model.config.tower is not None:
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
  if c.cache.references and c.loss.name in losses.NEEDS_REFERENCE:
    if learned:
      raise ValueError(
        f"cache.references needs frozen weights, trainable={c.trainable!r} "
        f"trains {', '.join(learned)}; set cache.references=False"
      )
    scoring = pair_logps.make_scoring(**c.step, mesh=mesh)
    references = reference_cache.make(
      model, params, c.data.cache, mesh, scoring, verify=c.cache.verify
    )
  return Caches(features, references)


def _as_it_is(data: pipeline.Data) -> pipeline.Data:
  return data
