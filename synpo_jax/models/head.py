"""Log-probs of given tokens, without ever holding all their logits.

A chunk of positions at a time meets the vocabulary, and its logits are gone
before the next. Nothing indexes the vocabulary axis (the target's logit is
picked by comparison), so with kernel columns sharded over a mesh axis only
sums per position cross devices, never logits.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from synpo_jax.models import data_parts


class Scores(NamedTuple):
  """What tokens meet at the head, float32.

  logps: of each target token. collisions: log sum_v p_v^2 of all tokens v in
  its place, constants; None unless they are asked for.
  """

  logps: Float[Array, "..."]
  collisions: Float[Array, "..."] | None


def token_logps(
  hidden: Float[Array, "B M D"],
  kernel: Float[Array, "D V"],
  targets: Int[Array, "B M"],
  **how,
) -> Float[Array, "B M"]:
  """Log-prob of each target token; how: as of `token_scores`."""
  return token_scores(hidden, kernel, targets, **how).logps


def token_scores(
  hidden: Float[Array, "B M D"],
  kernel: Float[Array, "D V"],
  targets: Int[Array, "B M"],
  *,
  chunk: int,
  softcap: float | None = None,
  trainable: bool = False,
  tied: bool = False,
  kernel_sharding: jax.sharding.Sharding | None = None,
  collisions: bool = False,
) -> Scores:
  """Scores of each target token under softmax(hidden @ kernel).

  chunk: positions of every row that meet the vocabulary at once; B * chunk * V
    float32 logits are live.
  softcap: c bounds the logits z to c tanh(z / c).
  trainable: recompute each chunk's logits backward, with gradients to the
    kernel. Otherwise the kernel is a constant (its gradient is zero) and the
    forward pass saves d logp / d hidden, so no logit is computed twice.
  tied: kernel is the transpose of an embedding table, which is then read as
    it is stored; the loop would copy it else.
  kernel_sharding: brought about once before the loop. Kernel rows that are
    sharded (FSDP) are otherwise gathered for every chunk, and logits with
    them: give a sharding of columns only.
  collisions: whether they are wanted; they take one more sum of each chunk.

  Products run in hidden's dtype and are summed in float32. Targets outside
  [0, V) count as no token and give a finite value of no meaning.
  """
  if chunk < 1:
    raise ValueError(f"head chunk is {chunk}: it must be at least 1 position")
  if kernel_sharding is not None:
    place = data_parts.still(kernel_sharding)
    kernel = jax.lax.with_sharding_constraint(kernel, place)
  if tied:
    kernel = kernel.T
  length = hidden.shape[1]
  count = -(-length // chunk)
  hidden_nBcD = split(hidden, count)
  targets_nBc = split(targets, count)
  score = _recomputed_scores if trainable else _frozen_scores
  form = _Form(softcap, tied, collisions)
  scores = score(hidden_nBcD, kernel, targets_nBc, form)
  return jax.tree.map(lambda x_nBc: _join(x_nBc)[:, :length], scores)


class _Form(NamedTuple):
  """What kind of head it is, and what of it; a kernel [V, D] if tied."""

  softcap: float | None
  tied: bool
  collisions: bool

  @property
  def kernel(self):
    return "vd" if self.tied else "dv"


def split(x: Array, count: int) -> Array:
  """[B, M, ...] -> [count, B, c, ...], zeros after the last position.

  The pieces are of one size, so at most count - 1 positions are padding.
  """
  B, M = x.shape[:2]
  size = -(-M // count)
  padding = [(0, 0), (0, count * size - M)] + [(0, 0)] * (x.ndim - 2)
  pieces = jnp.pad(x, padding).reshape(B, count, size, *x.shape[2:])
  return jnp.moveaxis(pieces, 1, 0)


def _join(x_nBc):
  """[count, B, c] -> [B, count * c]."""
  return jnp.moveaxis(x_nBc, 0, 1).reshape(x_nBc.shape[1], -1)


def _matmul(equation, x, w):
  """Product in x's dtype, summed in float32; no TF32 for float32 inputs."""
  exact = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
  return jnp.einsum(
    equation,
    x,
    w.astype(x.dtype),
    precision=exact,
    preferred_element_type=jnp.float32,
  )


def _score(hidden_BcD, kernel, targets_Bc, form):
  """Scores [B, c], and what their Jacobian needs: z, log sum exp, hits."""
  z_BcV = _matmul(f"bcd,{form.kernel}->bcv", hidden_BcD, kernel)
  if form.softcap is not None:
    z_BcV = form.softcap * jnp.tanh(z_BcV / form.softcap)
  hit_BcV = jax.lax.broadcasted_iota(
    targets_Bc.dtype, z_BcV.shape, 2
  ) == jnp.expand_dims(targets_Bc, -1)
  lse_Bc = jax.nn.logsumexp(z_BcV, axis=-1)
  picked_Bc = jnp.sum(jnp.where(hit_BcV, z_BcV, 0.0), axis=-1)
  collisions_Bc = None
  if form.collisions:
    both_Bc = jax.nn.logsumexp(2 * z_BcV, axis=-1) - 2 * lse_Bc
    collisions_Bc = jax.lax.stop_gradient(both_Bc)
  scores = Scores(picked_Bc - lse_Bc, collisions_Bc)
  return scores, z_BcV, lse_Bc, hit_BcV


def _score_with_jacobian(hidden_BcD, kernel, targets_Bc, form):
  """Scores [B, c] and d logp / d hidden [B, c, D] in hidden's dtype."""
  scores, z_BcV, lse_Bc, hit_BcV = _score(hidden_BcD, kernel, targets_Bc, form)
  slope_BcV = hit_BcV - jnp.exp(z_BcV - lse_Bc[..., None])
  if form.softcap is not None:
    slope_BcV *= 1 - jnp.square(z_BcV / form.softcap)
  dtype = hidden_BcD.dtype
  jacobian = _matmul(f"bcv,{form.kernel}->bcd", slope_BcV.astype(dtype), kernel)
  return scores, jacobian.astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _frozen_scores(hidden_nBcD, kernel, targets_nBc, form):
  return jax.lax.map(
    lambda x: _score(x[0], kernel, x[1], form)[0],
    (hidden_nBcD, targets_nBc),
  )


def _frozen_forward(hidden_nBcD, kernel, targets_nBc, form):
  return jax.lax.map(
    lambda x: _score_with_jacobian(x[0], kernel, x[1], form),
    (hidden_nBcD, targets_nBc),
  )


def _frozen_backward(form, jacobian_nBcD, grads):
  grad_hidden = grads.logps[..., None] * jacobian_nBcD.astype(jnp.float32)
  return grad_hidden.astype(jacobian_nBcD.dtype), None, None


_frozen_scores.defvjp(_frozen_forward, _frozen_backward)


def _recomputed_scores(hidden_nBcD, kernel, targets_nBc, form):
  """The same with gradients to the kernel; keeps no chunk's logits."""

  # Within a loop the compiler cannot merge the two computations of a chunk;
  # a loop of one is unrolled, so there it must be told not to.
  @functools.partial(jax.checkpoint, prevent_cse=len(hidden_nBcD) == 1)
  def score(x):
    return _score(x[0], kernel, x[1], form)[0]

  return jax.lax.map(score, (hidden_nBcD, targets_nBc))
