"""One update: pure functions of (state, frozen weights, batch, key)."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct, traverse_util

from synpo_jax import losses
from synpo_jax.losses import lists, modifiers, sequences
from synpo_jax.training import pair_logps
from synpo_jax.training.gradients import (
  Objective,
  accumulate,
  added_once,
  value,
  value_and_grad,
)


@struct.dataclass
class TrainState:
  """Everything that changes. The frozen weights are an argument instead.

  step: int32 updates tried. trained: the weights that learn. opt: optimiser
  state. skipped: int32 updates left out in all, and in_a_row: lately. In the
  place of arrays there may be their shapes or shardings.
  """

  step: Any
  trained: dict
  opt: optax.OptState
  skipped: Any
  in_a_row: Any


def init_state(trained, tx) -> TrainState:
  """The state before the first update."""
  step, skipped, in_a_row = (jnp.zeros((), jnp.int32) for _ in range(3))
  return TrainState(step, trained, tx.init(trained), skipped, in_a_row)


def split(variables, pattern):
  """(trained, frozen) trees: what trains is a full match of the path.

  Raises ValueError when the pattern matches nothing, or int8 weights.
  """
  flat = traverse_util.flatten_dict(variables, sep="/")
  trained = {k: v for k, v in flat.items() if re.fullmatch(pattern, k)}
  frozen = {k: v for k, v in flat.items() if k not in trained}
  if not trained:
    raise ValueError(f"trainable={pattern!r} matches no weight of the model")
  for name in trained:
    if flat.get(name.removesuffix("_scale"), flat[name]).dtype == jnp.int8:
      raise ValueError(
        f"trainable={pattern!r} matches {name}, which model.base=int8 freezes;"
        " set model.base=float"
      )
  return _nested(trained), _nested(frozen)


def merge(trained, frozen):
  """The variables again, from the two trees that `split` made."""
  flatten = traverse_util.flatten_dict
  return _nested({**flatten(frozen, sep="/"), **flatten(trained, sep="/")})


def _nested(flat):
  return traverse_util.unflatten_dict(flat, sep="/")


def make_objective(model, scoring, **loss):
  """A loss or a mixture, by the arguments of `losses.make`, as an Objective.

  Raises ValueError for a loss with a reference where no adapter can be
  switched off.
  """
  loss_fn = losses.make(**loss)
  if loss_fn.needs_reference and model.lora is None:
    raise ValueError(
      f"loss {loss_fn.name} compares with the model without its adapter: "
      "set lora.rank, or choose a loss without a reference"
    )

  def score(trained, frozen, batch, key):
    variables = merge(trained, frozen)
    rngs = None if key is None else {"dropout": key}
    decoder = trained.get("params", {}).get("decoder", {})
    train_head = bool({"head", "embed"} & set(decoder))
    weighs = loss_fn.wpo is not None
    how = dict(train_head=train_head, collisions=weighs, rngs=rngs)
    given = model, variables, batch, scoring
    logps, collisions = pair_logps.pair_scores(*given, **how)
    ref_logps = batch.ref_logps
    if loss_fn.needs_reference and ref_logps is None:
      ref_logps = _reference(loss_fn.ld_alpha, *given)
    if not weighs:
      return logps, ref_logps
    near = modifiers.closeness(logps, collisions, batch.response_mask)
    return logps, ref_logps, near

  def judge(logps, ref_logps, mask, weight, scores=None, closeness=None):
    loss_B = loss_fn(logps, mask, ref_logps, weight, scores, closeness)
    sums = pair_sums(logps, mask, loss_B, weight, scores)
    if closeness is None:
      return sums
    weights_B = modifiers.pair_weights(closeness, loss_fn.wpo)
    return sums | {"wpo_weight": jnp.sum(weights_B * weight)}

  return Objective(score, judge, loss_fn.coupled, scoring.mesh)


def _reference(ld_alpha, *given):
  if ld_alpha is None:
    return pair_logps.reference_logps(*given)
  return modifiers.joined(pair_logps.reference_parts(*given), ld_alpha)


def pair_sums(logps, mask, loss_B, weight_B, scores_BC=None):
  """Sums over the pairs of a batch; divided by `pairs`, means.

  Of lists, whose scores are given, chosen is the best caption and rejected the
  worst, and accuracy is the share of a list's ordered pairs.
  """
  stats = sequences.sequence_stats(logps, mask)

  def total(values_B):
    return jnp.sum(jnp.where(weight_B > 0, values_B, 0.0) * weight_B)

  sums = {
    "pairs": jnp.sum(weight_B),
    "tokens": total(jnp.sum(mask, axis=(1, 2)).astype(jnp.float32)),
    "loss": total(loss_B),
    "chosen_logp": total(stats.mean_logp[:, 0]),
    "chosen_geo_prob": total(stats.geo_prob[:, 0]),
    "chosen_avg_prob": total(stats.avg_prob[:, 0]),
  }
  if logps.shape[1] == 1:
    return sums
  if logps.shape[1] > 2 and scores_BC is None:
    sums["gold_logp"] = total(stats.mean_logp[:, 2])
  ends = (_ends(x, mask, scores_BC)[:, 1] for x in stats[1:3])
  rejected_logp_B, rejected_geo_B = ends  # of mean_logp and geo_prob
  margin_B = stats.geo_prob[:, 0] - rejected_geo_B
  right_B = (margin_B > 0).astype(jnp.float32)
  if scores_BC is not None:
    right_B = lists.ranked_rightly(stats.geo_prob, mask, scores_BC)
  return sums | {
    "rejected_logp": total(rejected_logp_B),
    "rejected_geo_prob": total(rejected_geo_B),
    "margin": total(margin_B),
    "accuracy": total(right_B),
  }


def _ends(values_BC, mask, scores_BC):
  """Those of chosen and rejected captions; of a list of the best and worst."""
  if scores_BC is None:
    return values_BC[:, :2]
  last_B1 = jnp.sum(jnp.any(mask, axis=-1), axis=-1, keepdims=True) - 1
  worst_B1 = jnp.take_along_axis(values_BC, jnp.maximum(last_B1, 0), axis=1)
  return jnp.concatenate([values_BC[:, :1], worst_B1], axis=1)


def means(sums):
  """Per-pair means of `pair_sums`; `pairs` and `tokens` stay totals."""
  totals = {name: sums[name] for name in ("pairs", "tokens")}
  return totals | {
    name: value / sums["pairs"]
    for name, value in sums.items()
    if name not in totals
  }


def make_train_step(objective, tx, *, dropout):
  """Returns pure (state, frozen, batch [A, B, ...], key) -> (state, metrics).

  Gradients are summed over micro-batches and divided by the pairs they hold,
  so a partial batch weighs its pairs like any other. An update whose loss or
  gradient is not finite changes nothing but the counters.
  """

  def train_step(state, frozen, batch, key):
    step_key = jax.random.fold_in(key, state.step) if dropout else None
    sums, grads = value_and_grad(
      objective, state.trained, frozen, batch, step_key
    )
    grads = jax.tree.map(lambda g: g / sums["pairs"], grads)
    metrics = means(sums) | {"grad_norm": optax.tree.norm(grads)}
    fine = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
    updates, opt = tx.update(grads, state.opt, state.trained)
    trained = optax.apply_updates(state.trained, updates)
    state = _keep_if(fine, state, trained, opt)
    return state, metrics | {
      "skipped": state.skipped,
      "skipped_in_a_row": state.in_a_row,
    }

  return train_step


def _keep_if(fine, state, trained, opt):
  def pick(new, old):
    return jax.tree.map(lambda n, o: jnp.where(fine, n, o), new, old)

  missed = 1 - fine.astype(jnp.int32)
  return TrainState(
    step=state.step + 1,
    trained=pick(trained, state.trained),
    opt=pick(opt, state.opt),
    skipped=state.skipped + missed,
    in_a_row=(state.in_a_row + missed) * missed,
  )


def make_eval_step(objective):
  """Returns pure (trained, frozen, batch [A, B, ...]) -> sums."""

  return functools.partial(value, objective)


def make_reward_norms(model, scoring, *, summed):
  """Returns (trained, frozen, batch) -> gradient norms of the rewards.

  The reward is S; or, `summed`, the log-prob, as where the loss has a reference
  (which itself has no gradient). Each norm is that of the gradient of the
  mean reward over the batch's pairs, divided by the number of trained
  elements, without dropout: the official release's pos/neg_l2_norm. One forward
  pass serves both; without rejected captions there is one.
  """

  def rewards(trained, frozen, rows):
    logps = pair_logps.pair_logps(model, merge(trained, frozen), rows, scoring)
    stats = sequences.sequence_stats(logps, rows.response_mask)
    reward_BC = stats.sum_logp if summed else stats.geo_prob
    reward_BC = _ends(reward_BC, rows.response_mask, rows.scores)
    return jnp.sum(jnp.where(rows.weight[:, None] > 0, reward_BC, 0.0), axis=0)

  def learn(trained, frozen, batch, key):
    def micro(rows, _):
      total_C, back = jax.vjp(lambda t: rewards(t, frozen, rows), trained)
      return jax.lax.map(lambda slope: back(slope)[0], jnp.eye(len(total_C)))

    total = accumulate(micro, batch, key)
    return {}, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), total)

  def norms(trained, frozen, batch):
    given = trained, frozen, batch, None
    _, total = added_once(scoring.mesh, learn, *given)
    elements = sum(leaf.size for leaf in jax.tree.leaves(trained))
    norm_C = jax.vmap(optax.tree.norm, in_axes=-1)(total)
    mean_C = norm_C / jnp.sum(batch.weight) / elements
    names = ("chosen_reward_grad_norm", "rejected_reward_grad_norm")
    return dict(zip(names, mean_C, strict=False))

  return norms
