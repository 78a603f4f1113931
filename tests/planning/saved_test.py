"""What the decoder's layers save, as a plan counts it."""

import jax
import jax.numpy as jnp
import pytest

from synpo_jax.models import remat
from synpo_jax.planning import abstract_step, outcome
from tests.support import run_config

T = 256  # masks of dropout are drawn for as many


def residuals(step) -> int:
  """Bytes a token that the backward pass is handed of the layers."""
  model, c = step.model, step.model.config.decoder
  x = jax.ShapeDtypeStruct((1, T, c.width), model.dtype)

  def saved(params, lora, x, key):
    def run(lora):
      variables = {"params": params, "lora": lora}
      places = jnp.arange(T)[None]
      ones = jnp.ones((1, T), jnp.int32)
      how = dict(rngs={"dropout": key}, method="decode")
      return model.apply(variables, x, places, ones, (), False, **how)

    return jax.vjp(run, lora)[1]

  held = step.frozen["params"], step.state.trained["lora"]
  weights = {leaf.shape for leaf in jax.tree.leaves(held)}
  found = jax.tree.leaves(jax.eval_shape(saved, *held, x, jax.random.key(0)))
  own = [leaf for leaf in found if leaf.shape not in weights]
  kept = [
    leaf for leaf in own if leaf.shape[:2] in ((c.layers, 1), (c.layers, T))
  ]
  return sum(leaf.size * leaf.dtype.itemsize for leaf in kept) / T


@pytest.mark.parametrize("policy", remat.REMAT)
@pytest.mark.parametrize("dropout", [0.0, 0.05])
def test_what_layers_save_is_counted(tmp_path, policy, dropout):
  c = run_config.get_config(tmp_path)
  c.model.remat = policy
  c.lora.update(rank=16, dropout=dropout)
  step = abstract_step.build(c, jax.devices()[:1])
  counted = outcome.saved(step) / outcome.tokens(step)
  assert counted == pytest.approx(residuals(step), rel=1e-3)
