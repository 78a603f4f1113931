"""What is looked at: captions and log-probs of clips, gradients of rewards."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from synpo_jax import losses
from synpo_jax.evaluation import shapes
from synpo_jax.generation import batch_captions
from synpo_jax.losses import sequences
from synpo_jax.models import sharding
from synpo_jax.study import cell, material
from synpo_jax.study.grid import Method
from synpo_jax.training import heldout, pair_logps, update
from synpo_jax.world.scores import KEYS


class Lens(NamedTuple):
  """What measures any adapter: compiled once for all methods.

  norms: whether log-probs are summed -> the jitted norms of the rewards'
  gradients (`update.make_reward_norms`).
  """

  score: Callable  # heldout.make_scorer's
  norms: Callable
  certainty: Callable  # (adapter, frozen, batch) -> S [A, B, C]
  new_tokens: int


class Held(NamedTuple):
  """Clips of a split: batches of true captions, and of pairs, and scenes."""

  references: object
  pairs: object | None
  scenes: dict


def make_lens(c, captioner) -> Lens:
  """Jits what scores an adapter of the captioner."""
  scoring, mesh = cell.make_scoring(c, captioner), captioner.mesh
  model, whole = captioner.model, sharding.replicated(mesh)

  @functools.cache
  def norms(summed):
    made = update.make_reward_norms(model, scoring, summed=summed)
    return jax.jit(made, out_shardings=whole)

  def certainty(trained, frozen, batch):
    def micro(_, rows):
      logps = pair_logps.pair_logps(
        model, update.merge(trained, frozen), rows, scoring
      )
      stats = sequences.sequence_stats(logps, rows.response_mask)
      return None, stats.geo_prob

    return jax.lax.scan(micro, None, batch)[1]

  return Lens(
    heldout.make_scorer(model, scoring, mesh),
    norms,
    jax.jit(certainty, out_shardings=whole),
    c.candidates.new,
  )


def hold(c, captioner, ground, split, pairs=None) -> Held:
  """Reads the batches of a split; pairs: a file of them."""
  read = functools.partial(material.read_data, c, captioner, ground)
  return Held(
    read(ground.references[split], captions=1),
    read(pairs, captions=2) if pairs else None,
    {name: ground.scenes[name] for name in ground.splits[split]},
  )


def captions(lens: Lens, captioner, trained, held: Held) -> dict[str, str]:
  """Greedy captions of the clips."""
  found = batch_captions.greedy(
    captioner.model,
    update.merge(trained, {"params": captioner.params}),
    held.references,
    most=len(held.references.pairs),
    max_new_tokens=lens.new_tokens,
    mesh=captioner.mesh,
    **captioner.texts._asdict(),
  )
  return {material.video_id(name): text for name, text in found.items()}


def marked(held: Held, texts: Mapping[str, str]) -> tuple[dict, dict]:
  """(rows by clip, scores with their errors) of captions of the clips."""
  rows, scores = shapes.score(held.scenes, texts)
  keys = [name for key in KEYS for name in (key, f"{key}_se")]
  found = {key: scores[key] for key in (*keys, "order_accuracy", "repetition")}
  found |= {
    "distinct_n": scores["distinct_2"],
    "distinct_1": scores["distinct_1"],
  }
  return {row["id"]: row for row in rows}, found


def likelihoods(lens: Lens, captioner, trained, held: Held) -> dict:
  """Log-probs per token of pairs and of true captions, nats."""
  frozen = {"params": captioner.params}

  def of(data):
    return heldout.score_pairs(
      lens.score, trained, frozen, data, captioner.mesh
    )

  found = {"language_logp": of(held.references)["chosen_logp"]}
  if held.pairs is None:
    return found
  pairs = of(held.pairs)
  found["ranking_accuracy"] = pairs["accuracy"]
  keys = ("chosen_logp", "rejected_logp", "margin")
  return found | {key: pairs[key] for key in keys}


def at_gradients(lens: Lens, captioner, method: Method, every: int):
  """A `watch`: norms of both rewards' gradients, and the bell of SynPO.

  The bell is the mean over pairs of 4 s (1 - s), s = sigmoid(alpha gap): the
  slope of the loss at a pair's gap, as a share of the slope at none.
  """
  frozen = {"params": captioner.params}
  loss = losses.make(method.loss, method.coefficients)

  def watch(step, adapter, batch):
    if batch is None or step % every or loss.captions == 1:
      return {}
    found = lens.norms(loss.needs_reference)(adapter, frozen, batch)
    found = {name: float(value) for name, value in found.items()}
    if method.loss == "synpo":
      s = np.asarray(lens.certainty(adapter, frozen, batch))
      gap = method.coefficients["alpha"] * (s[..., 0] - s[..., 1])
      slope = 1 / np.cosh(gap / 2) ** 2  # 4 s (1 - s)
      found["bell"] = float(np.average(slope, weights=batch.weight))
    return found

  return watch


def at_captions(lens: Lens, captioner, held: Held, every: int):
  """A `watch`: F1 of greedy captions of held clips, and their log-probs."""

  def watch(step, adapter, batch):
    if batch is not None and (step % every or not step):
      return {}
    texts = captions(lens, captioner, adapter, held)
    _, scores = marked(held, texts)
    found = {key: scores[key] for key in ("f1", "precision", "fluency")}
    return found | likelihoods(lens, captioner, adapter, held)

  return watch


def both(*watches):
  """One `watch` of several."""

  def watch(step, adapter, batch):
    found = {}
    for one in watches:
      found |= one(step, adapter, batch)
    return found

  return watch


def steps_to_half(seen: list[dict], start: float) -> int | None:
  """The first step at which F1 has risen by half of what it rises in all.

  start: F1 before training. None where it does not rise.
  """
  points = [(row["step"], row["f1"]) for row in seen if "f1" in row]
  if not points or points[-1][1] <= start:
    return None
  half = start + (points[-1][1] - start) / 2
  return next(step for step, f1 in points if f1 >= half)
