"""From one row of logits to one token id; pure functions of float32 logits."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


class Sampling(NamedTuple):
  """How a token is drawn; temperature 0 takes the most probable one.

  top_k counts tokens (more than the vocabulary means all of them); top_p is a
  mass of the distribution that top_k has left, in (0, 1].
  """

  temperature: float
  top_k: int
  top_p: float


GREEDY = Sampling(temperature=0.0, top_k=1, top_p=1.0)


def check(sampling: Sampling) -> None:
  """Raises ValueError naming the first setting that makes no sense."""
  if not sampling.temperature >= 0:
    raise ValueError(
      f"sampling.temperature={sampling.temperature}: must be 0 (greedy) or more"
    )
  if sampling.top_k < 1:
    raise ValueError(
      f"sampling.top_k={sampling.top_k}: must be 1 or more; "
      "give the vocabulary size to keep every token"
    )
  if not 0 < sampling.top_p <= 1:
    raise ValueError(f"sampling.top_p={sampling.top_p}: must be in (0, 1]")


def contrast(
  full: Float[Array, "N V"],
  weak: Float[Array, "N V"],
  weight: Float[Array, " N"],
  cutoff: float | None,
) -> Float[Array, "N V"]:
  """(1 + weight) * full - weight * weak, on raw float32 logits.

  A row of weight 0 is `full` itself. `cutoff` is the plausibility constraint
  of contrastive decoding (Li et al. 2022, eq. 3): tokens less probable than
  cutoff times the most probable token of `full` cannot be drawn; None keeps
  them all, as the official release does.
  """
  w = weight[:, None]
  mixed = jnp.where(w == 0, full, (1 + w) * full - w * weak)
  if cutoff is None:
    return mixed
  full = _finite(full)
  least = jnp.max(full, axis=-1, keepdims=True) + math.log(cutoff)
  return jnp.where(full >= least, mixed, -jnp.inf)


def shortlist(
  logits: Float[Array, "N V"], sampling: Sampling
) -> tuple[Float[Array, "N K"], Int[Array, "N K"]]:
  """Log-weights and ids of the tokens that may be drawn, most probable first.

  Softmax at the temperature, the top_k most probable renormalised, then every
  token after the first whose cumulative mass is strictly above top_p dropped
  (weight -inf). A token outside top_k does not enter any later number, so the
  softmax is taken over the shortlist alone. Non-finite logits count as -inf.
  """
  k = min(sampling.top_k, logits.shape[-1])
  best, ids = jax.lax.top_k(_finite(logits), k)
  weights = jax.nn.log_softmax(best / sampling.temperature, axis=-1)
  mass = jnp.exp(weights)
  before = jnp.cumsum(mass, axis=-1) - mass
  return jnp.where(before <= sampling.top_p, weights, -jnp.inf), ids


def choose(
  keys: Key[Array, " N"],
  logits: Float[Array, "N V"],
  sampling: Sampling,
  eos_id: int,
) -> Int[Array, " N"]:
  """One token id per row, each from its own key; eos_id where all is -inf.

  The distribution is that of the official release's sampler. Row n depends
  on row n of the arguments only.
  """
  dead = jnp.all(_finite(logits) == -jnp.inf, axis=-1)
  if sampling.temperature == 0:
    token = jnp.argmax(_finite(logits), axis=-1)
  else:
    weights, ids = shortlist(logits, sampling)
    place = jax.vmap(jax.random.categorical)(keys, weights)
    token = jnp.take_along_axis(ids, place[:, None], axis=-1)[:, 0]
  return jnp.where(dead, eos_id, token).astype(jnp.int32)


def chosen_logps(
  logits: Float[Array, "N V"], tokens: Int[Array, " N"]
) -> Float[Array, " N"]:
  """Log-probability of each row's token at temperature 1, without filters.

  0 for a row without any finite logit: its token was forced.
  """
  logits = _finite(logits)
  picked = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
  total = jax.nn.logsumexp(logits, axis=-1)
  return jnp.where(total == -jnp.inf, 0.0, picked - total)


def _finite(logits: Float[Array, "N V"]) -> Float[Array, "N V"]:
  logits = logits.astype(jnp.float32)
  return jnp.where(jnp.isfinite(logits), logits, -jnp.inf)
