"""Rows of drawn log-probs, and what a loss makes of them."""

import jax
import jax.numpy as jnp
import numpy as np

from configs import vdc
from synpo_jax import losses

B, R = 6, 7


def batch(seed, low=1e-6, high=60.0, drift=3.0):
  """Rows of float64 pairs and the padded float32 arrays of the same."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(1, R + 1, (B, 2))
  lengths[0] = 1
  size = np.exp(rng.uniform(np.log(low), np.log(high), (B, 2, R)))
  logps = -size.astype(np.float32)
  mask = np.arange(R) < lengths[..., None]
  # Supervised tokens need not stand in front.
  mask[1] = mask[1, :, ::-1]
  sums = np.where(mask, logps, 0).sum(-1)
  refs = (sums + drift * rng.standard_normal((B, 2))).astype(np.float32)
  rows = [
    (np.float64(x[m[0]]), np.float64(y[m[1]]), *np.float64(ref))
    for (x, y), m, ref in zip(logps, mask, refs, strict=True)
  ]
  return rows, jnp.asarray(logps), jnp.asarray(mask), jnp.asarray(refs)


def value_and_grad(name, logps, mask, refs, **keywords):
  """Of the summed loss; its coefficients are the config's unless given."""
  keywords = vdc.LOSSES[name] | keywords
  if name in losses.NEEDS_REFERENCE:
    keywords["ref_logps"] = refs

  def total(logps):
    loss = losses.LOSSES[name](logps, mask, **keywords)
    return jnp.sum(jnp.where(jnp.isnan(loss), 0.0, loss)), loss

  (_, loss), grad = jax.value_and_grad(total, has_aux=True)(logps)
  return np.asarray(loss), np.asarray(grad)


def scattered(grads, mask):
  """Oracle gradients, token by token, put where the mask is True."""
  out = np.zeros(mask.shape)
  for index in np.ndindex(*mask.shape[:2]):
    out[index][mask[index]] = grads[index][: mask[index].sum()]
  return out


def close(actual, desired, rtol, *, scale=None):
  scale = np.abs(desired).max() if scale is None else scale
  np.testing.assert_allclose(actual, desired, rtol=rtol, atol=rtol * scale)
