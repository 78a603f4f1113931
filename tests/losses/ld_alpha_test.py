"""LD-DPO: tokens that make a caption longer count less, of both policies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vdc
from synpo_jax import losses
from synpo_jax.data import text
from synpo_jax.losses import modifiers
from synpo_jax.models import sharding
from synpo_jax.training import pair_logps, reference_cache
from tests.support import losses_oracle as oracle
from tests.support import text_update
from tests.support.loss_rows import R, batch, close, scattered

LIGHTENED = "dpo ipo sigmoid_norm hypo r_dpo bco kto aot".split()


def shares(w, z, alpha):
  """What each token of two captions counts, in float64."""
  n = min(len(w), len(z))
  return [np.where(np.arange(len(x)) < n, 1.0, alpha) for x in (w, z)]


def value_and_grad(loss, logps, mask, refs):
  def total(logps):
    loss_B = loss(logps, mask, refs, jnp.ones(len(logps)))
    return jnp.sum(loss_B), loss_B

  (_, loss_B), grad = jax.value_and_grad(total, has_aux=True)(logps)
  return np.asarray(loss_B), np.asarray(grad)


@pytest.mark.parametrize("name", LIGHTENED)
def test_value_and_gradient_match_float64(name):
  rows, logps, mask, refs = batch(3, low=0.05, high=3.0)
  alpha = 0.3
  counted = [shares(w, z, alpha) for w, z, _, _ in rows]
  light = [
    (w * a, z * b, v, u)
    for (w, z, v, u), (a, b) in zip(rows, counted, strict=True)
  ]
  values, grads = oracle.expected(name, light, R)
  for grad, own in zip(grads, counted, strict=True):
    for c, factor in enumerate(own):
      grad[c, : len(factor)] *= factor
  loss = losses.make(name, vdc.LOSSES[name], ld_alpha=alpha)
  padded = jnp.where(mask, logps, jnp.nan)
  found, slope = value_and_grad(loss, padded, mask, refs)
  close(found, values, 2e-6)
  close(slope, scattered(grads, np.asarray(mask)), 3e-5)


# The formulas of TRL f2cd577 by hand, of the chosen's reference -3 and -1.
@pytest.mark.parametrize(
  "name, coefficients, alpha, value",
  [
    ("dpo", dict(beta=0.1), 0.5, 0.7133472),
    ("dpo", dict(beta=0.1), 0.0, 0.6881597),
    ("sigmoid_norm", dict(beta=5.0), 0.5, 1.1087620),
  ],
)
def test_trls_numbers(name, coefficients, alpha, value):
  none = jnp.nan
  logps = jnp.array([[[-0.2, -1.5, -0.7, -2.0], [-0.9, -1.1, -2.5, none]]])
  refs = modifiers.joined(jnp.array([[[-3.0, -1.0], [-5.0, 0.0]]]), alpha)
  loss = losses.make(name, coefficients, ld_alpha=alpha)
  found, _ = value_and_grad(loss, logps, jnp.isfinite(logps), refs)
  np.testing.assert_allclose(found, [value], rtol=1e-6)


def test_alone_what_is_compared_with_a_reference_is_lighter():
  """sft and a reference caption stay whole; 1 is the loss without it."""
  _, logps, mask, refs = batch(4, low=0.05, high=3.0)
  _, others, other_mask, _ = batch(5, low=0.05, high=3.0)
  logps = jnp.concatenate([logps, others[:, :1]], axis=1)
  mask = jnp.concatenate([mask, other_mask[:, :1]], axis=1)
  refs = jnp.concatenate([refs, refs[:, :1]], axis=1)
  parts = dict(dpo=dict(weight=2.0, beta=0.1), sft=dict(weight=0.5))
  parts["gold_nll"] = dict(weight=0.3)
  loss = losses.make("mine", parts, ld_alpha=0.3)
  found, _ = value_and_grad(loss, logps, mask, refs)
  wanted = 0.0
  for name, alpha, share in (
    ("dpo", 0.3, 2.0),
    ("sft", None, 0.5),
    ("gold_nll", None, 0.3),
  ):
    alone = losses.make(name, vdc.LOSSES[name], ld_alpha=alpha)
    wanted += share * value_and_grad(alone, logps, mask, refs)[0]
  close(found, wanted, 1e-6)
  assert str(loss).endswith("0.3 gold_nll, ld_alpha=0.3")
  whole = losses.make("dpo", dict(beta=0.1), ld_alpha=1)
  plain = losses.make("dpo", dict(beta=0.1))
  for a, b in zip(
    value_and_grad(whole, logps, mask, refs),
    value_and_grad(plain, logps, mask, refs),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)


def test_every_loss_with_a_reference_can_be_lighter():
  for name in losses.NEEDS_REFERENCE - losses.LISTS - {"rpo"}:
    assert losses.make(name, vdc.LOSSES[name], ld_alpha=0.5).ld_alpha == 0.5


@pytest.mark.parametrize(
  "name, own, said",
  [
    ("synpo", {}, "synpo has no reference"),
    ("rpo", {}, "rpo speaks of whole captions"),
    ("plackett_luce", {}, "plackett_luce reads a whole list"),
    ("dpo", dict(all_pairs=1.0), "loss.all_pairs takes lists apart"),
    ("dpo", dict(ld_alpha=1.5), "loss.ld_alpha=1.5: a number from 0 to 1"),
    ("dpo", dict(ld_alpha=False), "loss.ld_alpha=False: a number from"),
    ("dpo", dict(ld_alpha=np.nan), "loss.ld_alpha=nan: a number from"),
  ],
)
def test_what_cannot_be_lighter_is_refused(name, own, said):
  with pytest.raises(ValueError, match=said) as error:
    losses.make(name, vdc.LOSSES[name], **dict(ld_alpha=0.5) | own)
  assert "\n" not in str(error.value)


ROWS = [
  dict(chosen="a red circle moves left", rejected="a blue square"),
  dict(chosen="no square", rejected="the red circle stops there, then moves"),
]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
  """A language model, pairs of captions, and how it scores them."""
  tokenizer = text.load_tokenizer("synpo_jax/assets/tiny")
  path = tmp_path_factory.mktemp("ld_alpha") / "rows.jsonl"
  rows = [row | dict(question="What moves?") for row in ROWS]
  read = text_update.data(path, tokenizer, 2, rows)
  return text_update.model(len(tokenizer)), read


def test_references_are_as_light_in_the_step_and_from_the_cache(
  setting, tmp_path, capsys
):
  """Two sums serve every ld_alpha; those of other losses are kept apart."""
  (model, trained, frozen), data = setting
  scoring = pair_logps.Scoring("shared", 8, None, None)
  mesh = sharding.make_mesh(data=1, fsdp=1, model=1, devices=jax.devices()[:1])

  def attached(alpha):
    given = model, frozen["params"], tmp_path, mesh, scoring
    attach = reference_cache.make(*given, verify=2, ld_alpha=alpha)
    return attach(data).batches[0].micro(0)

  rows = jax.tree.map(jnp.asarray, data.batches[0].micro(0))
  base = lambda p: pair_logps.pair_logps(  # noqa: E731
    model.clone(lora=None), {"params": p}, rows, scoring
  )
  logps = np.float64(jax.jit(base)(frozen["params"]))
  found = {alpha: attached(alpha).ref_logps for alpha in (0.5, 0.0, None)}
  for alpha, refs in found.items():
    for own, mask, ref in zip(logps, rows.response_mask, refs, strict=True):
      w, z = (x[m] for x, m in zip(own, mask, strict=True))
      assert len(w) != len(z)
      counted = shares(w, z, 1.0 if alpha is None else alpha)
      wanted = [(w * counted[0]).sum(), (z * counted[1]).sum()]
      np.testing.assert_allclose(ref, wanted, rtol=1e-5)
  said = capsys.readouterr().out.splitlines()
  assert [line.split(";")[0] for line in said] == [
    "references: 0 read, 2 computed",
    "references: 2 read, 0 computed",
    "references: 0 read, 2 computed",
  ]
  goal = text_update.objective(
    model, "shared", name="dpo", coefficients=dict(beta=0.1), ld_alpha=0.5
  )
  in_step = jax.jit(goal.score)(trained, frozen, rows, None)[1]
  np.testing.assert_allclose(in_step, found[0.5], rtol=1e-5)
