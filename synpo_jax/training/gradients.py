"""What an update learns from: the gradient of its pairs, and sums over them.

A loss of one pair takes one pass over the micro-batches. Where the pairs of an
update read each other (losses.COUPLED), the update is one batch, however it is
cut: a first pass keeps the log-probs of all its captions, the loss is taken
over all of them, and a second pass carries its derivative back, micro-batch by
micro-batch. That is the exact gradient, for one more forward pass.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from synpo_jax.models import data_parts, sharding


class Objective(NamedTuple):
  """A loss in two halves.

  score: (trained, frozen, batch [B, ...], key) -> (log-probs of caption tokens
  [B, C, R], summed ones under the reference [B, C] or None; where pairs are
  weighed, their captions' closeness [B, C]). judge: (the first two of any N
  pairs, response_mask, weight, scores or None, closeness if any) -> sums over
  them, of `loss` among others. coupled: whether an update's pairs are judged
  together. mesh: whose parts of `data` add their gradients up once an update,
  however many micro-batches that has; None: there is no mesh.
  """

  score: Callable
  judge: Callable
  coupled: bool
  mesh: jax.sharding.Mesh | None = None


def value_and_grad(objective: Objective, trained, frozen, batch, key):
  """(sums, gradient of the summed loss) over an update [A, B, ...].

  key: of its dropout; None: without.
  """
  if objective.coupled and _count(batch) > 1:
    return _two_passes(objective, trained, frozen, batch, key)

  def learn(trained, frozen, batch, key):
    def loss(trained, rows, micro_key):
      sums = _judge_alone(objective, trained, frozen, rows, micro_key)
      return sums["loss"], sums

    def micro(rows, micro_key):
      (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(
        trained, rows, micro_key
      )
      return sums, grads

    return accumulate(micro, batch, key)

  return added_once(objective.mesh, learn, trained, frozen, batch, key)


def added_once(mesh, learn, trained, frozen, batch, key):
  """(sums, gradients) of `learn`; parts of `data` add theirs up at the end.

  mesh: as of Objective. learn: (trained, frozen, batch, key) -> (sums, leaves
  that begin with the axes of what is trained).

  One micro-batch leaves nothing to gain, and may be judged as a whole. Where
  `model` splits weights, too, XLA's partitioner ends the process over `data`
  split by hand (spmd_partitioner_util.cc, num_replica_groups, jax 0.10.2):
  there each micro-batch adds up.
  """
  alone = mesh is None or mesh.shape["data"] == 1 or _count(batch) == 1
  if alone or mesh.shape["model"] > 1:
    return learn(trained, frozen, batch, key)
  places = jax.tree.map(
    lambda place, leaf: sharding.over_data(place, leaf.shape).spec,
    sharding.tree_shardings(trained, mesh),
    trained,
  )
  once = data_parts.summed(learn, mesh, (P(), places))
  return once(trained, frozen, batch, key)


def value(objective: Objective, trained, frozen, batch) -> dict:
  """The sums over an update [A, B, ...], without dropout."""
  if objective.coupled and _count(batch) > 1:
    scored = _scored(objective, trained, frozen, batch, None)
    return _judge_together(objective, scored, batch)

  def micro(rows, _):
    return _judge_alone(objective, trained, frozen, rows, None)

  return accumulate(micro, batch, None)


def accumulate(function, batch, key):
  """Sum of function(micro-batch, key) over the leading axis of `batch`."""
  function = jax.jit(function, inline=True)  # traced once for both uses
  first = jax.tree.map(lambda x: x[0], batch)
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype),
    jax.eval_shape(function, first, key),
  )

  def add(total, micro):
    index, rows = micro
    done = function(rows, _micro_key(key, index))
    return jax.tree.map(jnp.add, total, done), None

  total, _ = jax.lax.scan(add, zeros, (jnp.arange(_count(batch)), batch))
  return total


def _two_passes(objective, trained, frozen, batch, key):
  logps, *constant = _scored(objective, trained, frozen, batch, key)

  def loss(logps):
    sums = _judge_together(objective, (logps, *constant), batch)
    return sums["loss"], sums

  (_, sums), slopes = jax.value_and_grad(loss, has_aux=True)(logps)

  def learn(trained, frozen, batch_and_slopes, key):
    def micro(rows_and_slopes, micro_key):
      rows, slope = rows_and_slopes

      def again(trained):
        return objective.score(trained, frozen, rows, micro_key)[0]

      _, back = jax.vjp(again, trained)
      return back(slope)[0]

    return {}, accumulate(micro, batch_and_slopes, key)

  both = batch, slopes
  return sums, added_once(objective.mesh, learn, trained, frozen, both, key)[1]


def _scored(objective, trained, frozen, batch, key):
  """What `score` gives of each micro-batch, stacked: [A, B, ...]."""

  def micro(numbered):
    index, rows = numbered
    return objective.score(trained, frozen, rows, _micro_key(key, index))

  return jax.lax.map(micro, (jnp.arange(_count(batch)), batch))


def _judge_alone(objective, trained, frozen, rows, key):
  scored = objective.score(trained, frozen, rows, key)
  return _judge(objective, scored, _read(rows))


def _judge_together(objective, scored, batch):
  judged = tuple(scored), _read(batch)
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), judged)
  return _judge(objective, *flat)


def _judge(objective, scored, read):
  logps, ref_logps, *closeness = scored
  return objective.judge(logps, ref_logps, *read, *closeness)


def _read(rows):
  """What is judged of rows, but for their log-probs."""
  return rows.response_mask, rows.weight, rows.scores


def _micro_key(key, index):
  return None if key is None else jax.random.fold_in(key, index)


def _count(batch) -> int:
  return jax.tree.leaves(batch)[0].shape[0]
