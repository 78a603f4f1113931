"""From log-probs of tokens to the numbers of whole captions."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32


class SequenceStats(NamedTuple):
  """What losses and metrics read off each caption.

  sum_logp, mean_logp: log-prob of the caption and its mean per token, nats;
  geo_prob: geometric mean of the token probabilities, exp(mean_logp) (S);
  avg_prob: their arithmetic mean (P-bar); length: supervised tokens.
  """

  sum_logp: Float32[Array, "B C"]
  mean_logp: Float32[Array, "B C"]
  geo_prob: Float32[Array, "B C"]
  avg_prob: Float32[Array, "B C"]
  length: Float32[Array, "B C"]


def sequence_stats(
  logps: Float[Array, "B C R"], mask: Bool[Array, "B C R"]
) -> SequenceStats:
  """Statistics of each caption over its supervised tokens, in float32.

  Padding (mask False) may hold anything: it is replaced before any
  arithmetic, so neither value nor gradient sees it. A caption without a
  supervised token, which only filler rows may have, has sum and mean 0.
  """
  logps = jnp.where(mask, logps.astype(jnp.float32), 0.0)
  length = jnp.sum(mask, axis=-1).astype(jnp.float32)
  tokens = jnp.maximum(length, 1.0)
  total = jnp.sum(logps, axis=-1)
  mean = total / tokens
  prob = jnp.sum(jnp.where(mask, jnp.exp(logps), 0.0), axis=-1)
  return SequenceStats(total, mean, jnp.exp(mean), prob / tokens, length)


def nll(stats: SequenceStats, form: str) -> Float32[Array, "B"]:
  """The chosen caption's negative log-likelihood, in one of FORMS.

  sum: of the whole caption, nats; mean: per token of it.
  """
  return -{"sum": stats.sum_logp, "mean": stats.mean_logp}[form][:, 0]


FORMS = ("sum", "mean")  # of `nll`


def check_form(name: str, coefficients: Mapping) -> None:
  """Raises ValueError, in one line, for an NLL that is neither of its forms."""
  form = coefficients.get("nll", FORMS[0])
  if form not in FORMS:
    raise ValueError(
      f"loss.coefficients: nll of {name} is {form!r}; choose "
      f"{' or '.join(FORMS)}"
    )


# What a preference loss takes, and gives.
Logps = Float[Array, "B 2 R"]
Mask = Bool[Array, "B 2 R"]
Refs = Float[Array, "B 2"] | None
Weight = Float[Array, "B"] | None
Losses = Float[Array, "B"]
