"""What a run goes on with, where another one learned before it."""

import jax
import jax.numpy as jnp

from synpo_jax import losses
from synpo_jax.weights import adapters, learned, loading

REFERENCES = ("checkpoint", "adapter")


def check(c) -> None:
  """Raises ValueError, in one line, for a `begin` section that cannot be."""
  if c.begin.reference not in REFERENCES:
    raise ValueError(
      f"begin.reference={c.begin.reference}: choose {' or '.join(REFERENCES)}"
    )
  if not c.begin.adapter:
    if c.begin.reference != "checkpoint":
      raise ValueError(
        f"begin.reference={c.begin.reference}: there is no begin.adapter; name "
        "one, or set begin.reference=checkpoint"
      )
    return
  if not c.lora.rank:
    raise ValueError(
      f"begin.adapter={c.begin.adapter}: lora.rank=0 has no adapter to go on "
      "with; set the rank of that run"
    )
  if c.heldout.pairs and c.heldout.controls:
    raise ValueError(
      f"heldout.controls={c.heldout.controls}: controls nudge the checkpoint "
      "alone, not begin.adapter; set heldout.controls=0"
    )
  if _has_own_reference(c) and not c.cache.references:
    raise ValueError(
      "begin.reference=adapter: the adapter at the start is known at the start "
      "alone; set cache.references=True, which keeps what it says of every pair"
    )


def variables(c, model, mesh, fresh: dict) -> dict:
  """`fresh` variables with what the run begin.adapter learned in their place.

  model: a Captioner. fresh: as loading.load_variables gives them. Raises
  ValueError for an adapter of other sizes, one line that names both.
  """
  folder = c.begin.adapter
  if not folder:
    return fresh
  found = adapters.read(folder, model.config)
  _check_same(folder, found, model.lora, fresh["lora"])
  lora = jax.tree.map(
    lambda new, old: jax.device_put(jnp.float32(new), old.sharding),
    found.lora,
    fresh["lora"],
  )
  shardings = jax.tree.map(lambda leaf: leaf.sharding, fresh["params"])
  whole = found._replace(lora={}, config=None)
  params = learned.apply(fresh["params"], whole, shardings)
  return {"params": params, "lora": lora}


def reference(c, model, mesh, fresh: dict) -> dict:
  """`params` of the reference: the checkpoint's, or with begin.adapter on it.

  fresh: `params` as read. The second takes as much memory as they do.
  """
  if not _has_own_reference(c):
    return fresh
  again = loading.load_params(model, c.model.checkpoint, mesh)
  return loading.merge_adapter(again, c.begin.adapter, model, mesh)


def _has_own_reference(c) -> bool:
  needed = losses.make(**c.loss.to_dict()).needs_reference
  return needed and c.begin.reference == "adapter"


def _check_same(folder, found, config, fresh) -> None:
  there = found.config and (found.config.rank, found.config.alpha)
  here = config.rank, config.alpha
  if there != here:
    raise ValueError(
      f"begin.adapter={folder}: its (rank, alpha) are {there}, those of the "
      f"lora section {here}; set lora.rank and lora.alpha to that run's"
    )
  shapes = (jax.tree.map(lambda x: x.shape, t) for t in (found.lora, fresh))
  then, now = shapes
  if then != now:
    raise ValueError(
      f"begin.adapter={folder}: it adapts other layers, or layers of other "
      "sizes, than this run; name a run on the same checkpoint"
    )
