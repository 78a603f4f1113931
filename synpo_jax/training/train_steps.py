"""What makes and updates a state as a config asks, jitted for a mesh."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from synpo_jax import losses
from synpo_jax.models import sharding
from synpo_jax.training import optim, pair_logps, update


class Steps(NamedTuple):
  """What makes and updates a state; all but `rate` are jitted."""

  init: Callable  # what trains, as read -> the state before the first update
  train: Callable
  evaluate: Callable
  reward_norms: Callable
  rate: Callable  # update number -> learning rate


def make_steps(c, model, trained, mesh, updates) -> Steps:
  """Jits a config's update, its held-out scores and its reward norms.

  trained: what learns, as arrays or as shapes with shardings. updates: of the
  whole run.
  """
  optim.check_parts(c.optim.to_dict(), trained)
  tx, rate = optim.make(**c.optim, updates=updates)
  scoring = pair_logps.make_scoring(**c.step, mesh=mesh)
  loss = c.loss.to_dict()
  objective = update.make_objective(model, scoring, **loss)
  drops = c.lora.rank > 0 and c.lora.dropout > 0
  train = update.make_train_step(objective, tx, dropout=drops)
  summed = losses.make(**loss).needs_reference
  norms = update.make_reward_norms(model, scoring, summed=summed)
  shardings = state_shardings(trained, tx, mesh)
  everywhere = sharding.replicated(mesh)
  told = sharding.compiler_options(mesh, c.data.batch_size)
  jit = functools.partial(jax.jit, compiler_options=told)
  return Steps(
    make_init(tx, shardings),
    jit(train, donate_argnums=0, out_shardings=(shardings, everywhere)),
    jit(update.make_eval_step(objective), out_shardings=everywhere),
    jit(norms, out_shardings=everywhere),
    rate,
  )


def make_init(tx, shardings: update.TrainState) -> Callable:
  """Returns what trains, in any dtype -> a fresh state, float32; jitted."""

  def init(trained):
    trained = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), trained)
    return update.init_state(trained, tx)

  return jax.jit(init, out_shardings=shardings)


def state_shardings(trained, tx, mesh) -> update.TrainState:
  """Where a state lives; `trained` are arrays or shapes with shardings."""
  shardings = jax.tree.map(lambda leaf: leaf.sharding, trained)
  init = functools.partial(update.init_state, tx=tx)
  of_opt = sharding.optimiser_shardings(
    jax.eval_shape(init, trained).opt, shardings, mesh
  )
  everywhere = sharding.replicated(mesh)
  return update.TrainState(
    everywhere, shardings, of_opt, everywhere, everywhere
  )
