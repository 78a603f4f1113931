"""An attention back end in an update: over devices, and with remat."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synpo_jax.data.batch import Batch
from synpo_jax.models import initial, sharding
from synpo_jax.models.attention import XLA, Backend
from synpo_jax.models.captioner import Captioner, shapes
from synpo_jax.models.config import LoraConfig
from synpo_jax.training import gradients, update
from synpo_jax.training.pair_logps import Scoring
from tests.support.small_gemma import CONFIG

pytestmark = pytest.mark.slow


def test_an_update_is_the_same_over_eight_devices():
  """Loss and LoRA gradients: rows over four devices, heads over two."""
  mesh = sharding.make_mesh(data=2, fsdp=2, model=2)
  sliding = dataclasses.replace(CONFIG.decoder, sliding=(True, True))
  config = dataclasses.replace(CONFIG, decoder=sliding)
  model = Captioner(config, LoraConfig(4, 8.0, 0.0), remat="save_attention")
  variables = {
    "params": jax.tree.map(lambda x: 4 * x, initial.params(model, 0)),
    "lora": initial.adapter(model, 0),
  }
  variables["lora"] = jax.tree.map(lambda x: x + 0.02, variables["lora"])
  places = sharding.tree_shardings(shapes(model), mesh)
  variables = jax.device_put(variables, places)
  trained, frozen = update.split(variables, "lora/.*")
  batch = jax.tree.map(lambda x: x[None], make_batch())
  batch = sharding.put_batch(batch, mesh)

  def loss_and_gradients(backend):
    objective = update.make_objective(
      model.clone(attention=backend),
      Scoring("shared", 8, head_sharding=None, rows_sharding=None),
      name="synpo",
      coefficients=dict(alpha=30.0, beta=0.2),
    )
    step = jax.jit(partial(gradients.value_and_grad, objective))
    sums, grads = step(trained, frozen, batch, None)
    return [sums["loss"], *jax.tree.leaves(grads)]

  ours = loss_and_gradients(Backend("splash", mesh, emulated=True))
  for mine, wanted in zip(ours, loss_and_gradients(XLA), strict=True):
    np.testing.assert_allclose(
      mine, wanted, rtol=0, atol=2e-5 * float(jnp.abs(wanted).max())
    )


def make_batch():
  """Four text pairs with padding, [B, ...]."""
  rng = np.random.default_rng(0)
  prefix_mask = np.arange(40) >= np.array([0, 7, 1, 20])[:, None]
  lengths = np.array([[20, 11], [5, 20], [1, 9], [20, 20]])
  return Batch(
    prefix=rng.integers(0, 61, (4, 40), np.int32),
    prefix_mask=prefix_mask,
    response=rng.integers(0, 61, (4, 2, 20), np.int32),
    response_mask=np.arange(20) < lengths[..., None],
    weight=np.ones(4, "float32"),
    row=np.arange(4, dtype="int32"),
  )


def equations(jaxpr):
  """Every equation of a traced function, those of inner functions too."""
  for equation in jaxpr.eqns:
    yield equation
    for value in jax.tree.leaves(
      list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
    ):
      if hasattr(value, "eqns"):
        yield from equations(getattr(value, "jaxpr", value))


def test_remat_saves_what_the_backward_pass_needs():
  """Where its result is saved, attention's forward pass runs once.

  XLA takes two strips: an exponential of each going forward, and back. What
  splash does is counted where it is compiled.
  """
  plain = dataclasses.replace(
    CONFIG.decoder, window=None, sliding=(), attn_softcap=None
  )
  config = dataclasses.replace(CONFIG, decoder=plain)
  tokens = jnp.zeros((1, 128), jnp.int32)
  counts = {}
  for remat in ("save_attention", "full"):
    model = Captioner(config, remat=remat)

    def total(params, model=model):
      apply = partial(model.apply, {"params": params})
      x = apply(tokens, None, method="embed")
      hidden, _ = apply(x, tokens, jnp.ones_like(tokens), method="decode")
      return hidden.sum()

    traced = jax.make_jaxpr(jax.grad(total))(shapes(model)["params"])
    names = [e.primitive.name for e in equations(traced.jaxpr)]
    counts[remat] = names.count("exp")
  assert counts == dict(save_attention=4, full=6)
