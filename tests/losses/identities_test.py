"""What a loss is at some of its coefficients."""

import jax.numpy as jnp
import numpy as np
import pytest

from configs.vdc import LOSSES
from synpo_jax import losses
from synpo_jax.losses.sequences import FORMS
from tests.support.loss_rows import B, batch, close, value_and_grad

pytestmark = pytest.mark.usefixtures("optimised")  # as users compile


@pytest.mark.parametrize(
  "name, coefficients, other, others",
  [
    (  # up to constants: its reward is S - 1, and gamma shifts the gap
      "synpo_log",
      dict(alpha=7.0, beta=0.0),
      "alphapo",
      dict(alpha=-1.0, beta=7.0, gamma=0.0),
    ),
    (
      "alphapo",
      dict(alpha=0.0, beta=2.0, gamma=0.5),
      "simpo",
      dict(beta=2.0, gamma=0.5),
    ),
    ("dpo_shift", dict(beta=0.1, lam=1.0), "dpo", dict(beta=0.1)),
  ],
)
def test_a_loss_is_another_at_these_coefficients(
  name, coefficients, other, others
):
  _, logps, mask, refs = batch(9, low=0.05, high=3.0)
  loss, grad = value_and_grad(name, logps, mask, refs, **coefficients)
  same, same_grad = value_and_grad(other, logps, mask, refs, **others)
  close(loss, same, 1e-6)
  close(grad, same_grad, 2e-6)


def test_hypo_is_dpo_but_where_the_reference_is_wrong():
  _, logps, mask, refs = batch(9)
  right = np.asarray(refs[:, 0] > refs[:, 1])
  assert 0 < right.sum() < B
  hypo, grad = value_and_grad("hypo", logps, mask, refs)
  dpo, dpo_grad = value_and_grad("dpo", logps, mask, refs)
  neutral = value_and_grad("dpo", logps, mask, 0 * refs)
  for found, with_it, without in (
    (hypo, dpo, neutral[0]),
    (grad, dpo_grad, neutral[1]),
  ):
    close(found[right], with_it[right], 1e-6)
    close(found[~right], without[~right], 1e-5)


def test_alphapo_ends_where_float32_does():
  logps = jnp.array([[[-9e3], [-1.0]], [[-1.0], [-9e3]]])
  loss, grad = value_and_grad("alphapo", logps, jnp.full((2, 2, 1), True), None)
  assert np.isfinite(loss).all() and np.isfinite(grad).all()
  assert loss[0] > 1e30 and loss[1] == 0


@pytest.mark.parametrize("name", [n for n in LOSSES if "nll" in LOSSES[n]])
def test_an_nll_of_no_named_form_is_that_of_the_paper(name):
  short = {key: value for key, value in LOSSES[name].items() if key != "nll"}
  _, logps, mask, refs = batch(8)
  refs = refs if name in losses.NEEDS_REFERENCE else None
  short_loss, *both = (
    np.asarray(losses.make(name, given)(logps, mask, refs, None))
    for given in (short, *(short | {"nll": form} for form in FORMS))
  )
  wanted = both[FORMS.index(LOSSES[name]["nll"])]
  np.testing.assert_array_equal(short_loss, wanted)
  assert not np.allclose(*both)
