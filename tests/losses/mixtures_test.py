"""Several losses as one: their sum, what it needs, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vdc
from synpo_jax import losses
from synpo_jax.planning import inputs
from tests.support.loss_rows import B, R, batch, close, scattered
from tests.support.losses_oracle import expected


def value_and_grad(loss, logps, mask, refs, weight=None):
  def total(logps):
    loss_B = loss(logps, mask, refs, weight)
    return jnp.sum(loss_B), loss_B

  (_, loss_B), grad = jax.value_and_grad(total, has_aux=True)(logps)
  return np.asarray(loss_B), np.asarray(grad)


def test_rpo_is_a_mixture():
  _, *arrays = batch(1)
  alone = losses.make("rpo", dict(beta=0.3, alpha=0.7, nll="mean"))
  mixed = losses.make(
    "dpo_and_sft", dict(dpo=dict(weight=1.0, beta=0.3), sft=dict(weight=0.7))
  )
  for found, wanted in zip(
    value_and_grad(mixed, *arrays), value_and_grad(alone, *arrays), strict=True
  ):
    close(found, wanted, 1e-6)


def test_a_mixture_is_the_weighted_sum_of_its_losses():
  """Against float64 NumPy, with a filler row that the others must not see."""
  rows, logps, mask, refs = batch(2, low=0.05, high=3.0)
  weight = jnp.ones(B).at[3].set(0.0)
  real = np.flatnonzero(np.asarray(weight))
  loss = losses.make("mpo", vdc.MIXTURES["mpo"])
  value, grad = value_and_grad(loss, logps, mask, refs, weight)
  values, grads = 0.0, 0.0
  for share, name, coefficients in (
    (0.8, "dpo", dict(beta=0.1)),
    (0.2, "bco", dict(beta=0.1)),
    (1.0, "sft", {}),
  ):
    own, slopes = expected(name, [rows[b] for b in real], R, **coefficients)
    values, grads = values + share * own, grads + share * slopes
  close(value[real], values, 1e-6)
  close(grad[real], scattered(grads, np.asarray(mask)[real]), 3e-5)


@pytest.fixture
def triple():
  """Log-probs of chosen, rejected and reference captions, and their mask."""
  _, logps, mask, _ = batch(4, low=0.05, high=3.0)
  _, others, other_mask, _ = batch(5, low=0.05, high=3.0)
  logps = jnp.concatenate([logps, others[:, :1]], axis=1)
  return logps, jnp.concatenate([mask, other_mask[:, :1]], axis=1)


def test_tpo_matches_float64(triple):
  """Value and analytic gradient; TRL's, which takes the NLL of one row so."""
  logps, mask = triple
  loss = losses.make("tpo", dict(beta=0.3, alpha=0.7))
  padded = jnp.where(mask, logps, jnp.nan)
  value, grad = value_and_grad(loss, padded, mask, None)
  for b in range(B):
    w, z, g = (np.float64(logps[b, c])[mask[b, c]] for c in range(3))
    gap = 0.3 * (w.sum() - z.sum())
    close(value[b], np.logaddexp(0, -gap) - 0.7 * g.mean(), 1e-6)
    pull = 0.3 / (1 + np.exp(gap))
    for c, slope in enumerate((-pull, pull, -0.7 / len(g))):
      close(grad[b, c], np.where(mask[b, c], slope, 0.0), 2e-6)


def test_tpo_is_a_mixture(triple):
  """As it has the value that TRL's formula has on a pair, by hand."""
  alone = losses.make("tpo", vdc.LOSSES["tpo"])
  terms = dict(
    cpo=dict(weight=1.0, beta=0.01, alpha=0.0, nll="sum"),
    gold_nll=dict(weight=1.0),
  )
  mixed = losses.make("mine", terms)
  assert (mixed.captions, mixed.needs_reference) == (3, False)
  for found, wanted in zip(
    value_and_grad(mixed, *triple, None),
    value_and_grad(alone, *triple, None),
    strict=True,
  ):
    close(found, wanted, 1e-6)
  logps = jnp.array([[[-0.2, -1.5], [-0.9, -1.1], [-0.5, -0.1]]])
  value = alone(logps, jnp.full((1, 3, 2), True), None, None)
  np.testing.assert_allclose(value, [0.9916483], atol=1e-6)


def test_a_mixture_needs_what_any_of_its_losses_needs():
  mpo = losses.make("mpo", vdc.MIXTURES["mpo"])
  assert (mpo.needs_reference, mpo.coupled, mpo.captions) == (True, True, 2)
  with pytest.raises(ValueError, match="loss.name=mpo compares .*holds 1;"):
    losses.check_together(mpo, 1, "an update holds 1")
  plain = losses.make(
    "plain", dict(simpo=vdc.LOSSES["simpo"] | {"weight": 2}, sft={"weight": 1})
  )
  assert (plain.needs_reference, plain.coupled) == (False, False)
  assert losses.make("sft", {}).captions == 1


@pytest.mark.parametrize(
  "name, coefficients, said",
  [
    ("dop", dict(beta=0.1), "loss=dop: no such loss; nearest: dpo"),
    ("dpo", dict(dpo=dict(weight=1, beta=0.1)), "loss.name=dpo is a loss"),
    (
      "mine",
      dict(sfd=dict(weight=1.0)),
      "loss=sfd: no such .*: sft",
    ),
    ("mine", dict(sft=dict()), "coefficients.sft.weight is None"),
    ("mine", dict(sft=dict(weight=1.0), beta=0.1), "loss=beta: no such loss"),
    ("mine", dict(sft=dict(weight=float("nan"))), "sft.weight is nan"),
    ("mine", dict(sft=dict(weight=-1.0)), "sft.weight is -1.0"),
    ("mine", dict(sft=dict(weight=True)), "sft.weight is True"),
    ("mine", dict(dpo=dict(weight=1.0)), "dpo takes beta, given are none"),
    ("mine", dict(sft=dict(weight=1.0, b=1)), "sft takes none, given are b"),
    ("orpo", dict(lam=0.1, nll="max"), "nll of orpo is 'max'; choose sum or m"),
    (
      "mine",
      dict(orpo=dict(weight=1, lam=1, nll=1)),
      "nll of orpo is 1; choos",
    ),
  ],
)
def test_what_is_no_loss_is_refused_in_a_line(name, coefficients, said):
  with pytest.raises(ValueError, match=said) as error:
    losses.make(name, coefficients)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(vdc.MIXTURES))
def test_a_configs_mixture_can_be_made_and_changed(name):
  c = vdc.get_config(f"loss={name}")
  term, *_ = c.loss.coefficients
  c.loss.coefficients[term].weight = 0.125
  told = inputs.check_loss(c, {}, "vdc")
  assert told.startswith(f"{name}: ") and f"0.125 {term}" in told
  assert vdc.MIXTURES[name][term]["weight"] != 0.125
