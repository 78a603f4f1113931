"""Every loss against float64 NumPy, one pair at a time, padding cut off."""

import inspect
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from configs import vdc
from synpo_jax import losses
from synpo_jax.losses import sequences
from tests.support.loss_rows import (
  B,
  R,
  batch,
  close,
  scattered,
  value_and_grad,
)
from tests.support.losses_oracle import ORACLE, expected, s

pytestmark = pytest.mark.usefixtures("optimised")  # as users compile

FAMILY = """synpo synpo_log dpo cdpo robust_dpo ipo sigmoid_norm dpo_shift hypo
hinge exo nca bco sppo apo_zero apo_down discopop aot rpo cpo simpo alphapo orpo
slic_hf rrhf r_dpo kto sft""".split()
REFERENCE = """dpo cdpo robust_dpo ipo sigmoid_norm dpo_shift hypo hinge exo nca
bco sppo apo_zero apo_down discopop aot rpo r_dpo kto""".split()


def test_the_dict_holds_the_family():
  others = ["tpo", "gold_nll", "plackett_luce", "synpo_list"]
  assert sorted(losses.LOSSES) == sorted([*FAMILY, *others])
  assert losses.NEEDS_REFERENCE == {*REFERENCE, "plackett_luce"}
  assert losses.COUPLED == {"aot", "bco", "kto"}


# Noise measured: values 2e-7, gradients 9e-6 (of the differences, mostly). Ten
# planted bugs, among them SimPO's gamma at 0.51, failed here or below.
@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("own", [False, True], ids=["defaults", "coefficients"])
def test_value_and_gradient_match_float64(name, own):
  for seed, spread in enumerate([{}, dict(low=0.05, high=3.0)]):
    rows, logps, mask, refs = batch(seed, **spread)
    names = inspect.signature(ORACLE[name]).parameters.values()
    defaults = {p.name: p.default for p in names if p.default is not p.empty}
    forms = dict(sum="mean", mean="sum")
    coefficients = {
      n: forms[v] if v in forms else 1.3 * v + 0.02 for n, v in defaults.items()
    }
    coefficients = coefficients if own else {}
    values, grads = expected(name, rows, R, **coefficients)
    padded = jnp.where(mask, logps, jnp.nan)
    loss, grad = value_and_grad(name, padded, mask, refs, **coefficients)
    assert loss.shape == (B,) and loss.dtype == np.float32
    close(loss, values, 1e-6)
    close(grad, scattered(grads, np.asarray(mask)), 3e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_padding_reaches_neither_value_nor_gradient(name):
  _, logps, mask, refs = batch(5)
  clean = value_and_grad(name, jnp.where(mask, logps, 0.0), mask, refs)
  for padding in (-np.inf, np.inf, np.nan, -1e30):
    padded = jnp.where(mask, logps, padding)
    loss, grad = value_and_grad(name, padded, mask, refs)
    np.testing.assert_array_equal(loss, clean[0])
    np.testing.assert_array_equal(grad, clean[1])
    assert not grad[~np.asarray(mask)].any()


@pytest.mark.parametrize("name", FAMILY)
def test_far_from_the_reference_all_is_finite(name):
  _, logps, mask, refs = batch(6)
  for shift in ([5e3, 0], [0, 5e3], [-5e3, -5e3], [-5e3, 5e3], [5e3, -5e3]):
    loss, grad = value_and_grad(name, logps, mask, refs + jnp.array([shift]))
    assert np.isfinite(loss).all() and np.isfinite(grad).all()


@pytest.mark.parametrize("name", FAMILY)
def test_certain_and_empty_captions_are_finite(name):
  _, logps, mask, refs = batch(7)
  logps = logps.at[0].set(0.0)  # every token certain
  mask = mask.at[1].set(False)  # a filler row
  loss, grad = value_and_grad(name, logps, mask, refs)
  assert np.isfinite(loss).all() and np.isfinite(grad).all()


# --- SynPO and DPO: analytic gradients and the published numbers ---


def test_synpo_gradient_is_the_analytic_one():
  rows, logps, mask, _ = batch(1)
  for alpha, beta in [(30.0, 0.2), (5.0, 0.0), (100.0, 1.0)]:
    _, grad = value_and_grad("synpo", logps, mask, None, alpha=alpha, beta=beta)
    wanted = np.zeros((B, 2, R))
    for b, (w, z, _, _) in enumerate(rows):
      up, down = np.exp(w.mean()), np.exp(z.mean())
      rank = s(alpha * (up - down))
      bell = alpha * rank * (1 - rank)
      wanted[b, 0, : len(w)] = -(bell * up + beta * np.exp(w)) / len(w)
      wanted[b, 1, : len(z)] = bell * down / len(z)
    close(grad, scattered(wanted, np.asarray(mask)), 1e-5)


def test_dpo_gradient_is_the_analytic_one():
  rows, logps, mask, refs = batch(1)
  for beta in (0.1, 2.0):
    _, grad = value_and_grad("dpo", logps, mask, refs, beta=beta)
    push = [
      beta * s(-beta * (w.sum() - v - z.sum() + u)) for w, z, v, u in rows
    ]
    wanted = np.array([[-p, p] for p in push])[..., None] * np.asarray(mask)
    close(grad, wanted, 1e-5)


@pytest.fixture
def published_pair():
  """The worked example that comes with the official formula."""
  chosen, rejected = [-0.2, -1.5, -0.7, -2.0], [-0.9, -1.1, -2.5, np.nan]
  logps = jnp.array([[chosen, rejected]], jnp.float32)
  return logps, jnp.isfinite(logps), jnp.array([[-4.0, -5.0]])


def test_published_vector_of_synpo(published_pair):
  logps, mask, _ = published_pair
  loss, grad = value_and_grad("synpo", logps, mask, None)
  stats = sequences.sequence_stats(logps, mask)
  np.testing.assert_allclose(loss, [-1.0478503], atol=2e-7)
  np.testing.assert_allclose(
    grad[0],
    [[-0.1272028, -0.0974228, -0.1110955, -0.0930330], 3 * [0.0771013] + [0]],
    atol=2e-7,
  )
  np.testing.assert_allclose(
    stats.geo_prob, [[0.3328711, 0.2231302]], atol=1e-7
  )
  np.testing.assert_allclose(stats.avg_prob[0, 0], 0.4184454, atol=1e-7)
  np.testing.assert_allclose(stats.sum_logp, [[-4.4, -4.5]], atol=1e-6)
  np.testing.assert_allclose(stats.mean_logp, [[-1.1, -1.5]], atol=1e-6)
  np.testing.assert_array_equal(stats.length, [[4, 3]])


def test_published_vector_of_dpo(published_pair):
  logps, mask, refs = published_pair
  loss, grad = value_and_grad("dpo", logps, mask, refs)
  np.testing.assert_allclose(loss, [0.7391593], atol=1e-7)
  np.testing.assert_allclose(
    grad[0], [4 * [-0.0522485], 3 * [0.0522485] + [0]], atol=1e-7
  )


# The formulas of TRL f2cd577 on that pair, worked out by hand.
@pytest.mark.parametrize(
  "name, coefficients, value",
  [
    ("sigmoid_norm", dict(beta=0.1), 0.7065694),
    ("alphapo", {}, 0.2443250),
    ("alphapo", dict(alpha=-1.0, gamma=0.0), 0.5653503),
  ],
)
def test_trls_numbers(published_pair, name, coefficients, value):
  loss, _ = value_and_grad(name, *published_pair, **coefficients)
  np.testing.assert_allclose(loss, [value], atol=2e-7)


@pytest.fixture(params=["a", "b"])
def golden(request):
  """Log-probs [B, 2, R] from the official code's logits, and its outputs."""
  with np.load(f"tests/golden/captioner_{request.param}.npz") as file:
    names = [n for n in file if not n.startswith(("llm/", "visual", "lora/"))]
    arrays = {n: file[n] for n in names}
  logits = np.float64(arrays["logits"][:, :-1])
  targets = arrays["labels"][:, 1:]
  mask = targets != -100
  picked = np.take_along_axis(logits, np.where(mask, targets, 0)[..., None], -1)
  logps = picked[..., 0] - np.log(np.exp(logits).sum(-1))
  fold = lambda x: jnp.asarray(np.stack(np.split(x, 2), axis=1))  # noqa: E731
  arrays["refs"] = fold(arrays["dpo/ref_logprob_sum"])
  return fold(np.float32(logps)), fold(mask), arrays


def test_golden_losses(golden):
  logps, mask, arrays = golden
  stats = sequences.sequence_stats(logps, mask)
  by_row = lambda x: np.asarray(x).T.reshape(-1)  # noqa: E731
  near = lambda x, y, atol: np.testing.assert_allclose(x, y, atol=atol)  # noqa: E731
  near(by_row(stats.mean_logp), arrays["mean_logprob"], 5e-6)
  near(by_row(stats.avg_prob), arrays["mean_prob"], 5e-6)
  near(by_row(stats.sum_logp), arrays["dpo/policy_logprob_sum"], 1e-4)
  ours = losses.synpo(logps, mask, alpha=30.0, beta=0.2)
  near(ours.mean(), arrays["synpo/loss"], 5e-6)
  for (alpha, beta), loss in zip(
    arrays["synpo/alpha_beta"], arrays["synpo/loss_alpha_beta"], strict=True
  ):
    ours = losses.synpo(logps, mask, alpha=float(alpha), beta=float(beta))
    near(ours.mean(), loss, 5e-6)
  ours = losses.dpo(logps, mask, arrays["refs"], beta=0.1)
  near(ours.mean(), arrays["dpo/loss"], 5e-6)
  near(losses.sft(logps, mask).mean(), arrays["dpo_check/micro/sft_loss"], 5e-6)


# --- order of the pair, missing references, fillers ---


def test_swapping_the_pair_flips_the_gap():
  _, logps, mask, refs = batch(3)
  swap = lambda x: x[:, ::-1]  # noqa: E731
  args, swapped = (logps, mask), (swap(logps), swap(mask))
  synpo = partial(losses.synpo, alpha=30.0, beta=0.0)
  np.testing.assert_allclose(synpo(*args) + synpo(*swapped), -1.0, atol=1e-6)
  dpo = partial(losses.dpo, beta=0.1)
  gap = dpo(*swapped, swap(refs)) - dpo(*args, refs)
  h = sequences.sequence_stats(*args).sum_logp - refs
  np.testing.assert_allclose(gap, 0.1 * (h[:, 0] - h[:, 1]), atol=1e-5)


@pytest.mark.parametrize("name", REFERENCE)
def test_a_missing_reference_is_said(name):
  _, logps, mask, _ = batch(3)
  with pytest.raises(ValueError, match="ref_logps is missing"):
    losses.LOSSES[name](logps, mask, **vdc.LOSSES[name])


def test_sft_reads_rows_of_one_caption():
  rows, logps, mask, _ = batch(4)
  loss = losses.sft(logps[:, :1], mask[:, :1])
  np.testing.assert_allclose(loss, [-row[0].mean() for row in rows], rtol=1e-5)


@pytest.mark.parametrize("name", sorted(losses.COUPLED))
def test_fillers_change_no_other_row(name):
  rows, logps, mask, refs = batch(8)
  real = np.array([0, 2, 3, 5])
  values, grads = expected(name, [rows[b] for b in real], R)
  mask = mask.at[1].set(False)
  refs = refs.at[1].set(0.0).at[4].set(jnp.array([900.0, -900.0]))
  weight = jnp.zeros(B).at[real].set(1.0)
  loss, grad = value_and_grad(name, logps, mask, refs, weight=weight)
  close(loss[real], values, 2e-5)
  close(grad[real], scattered(grads, np.asarray(mask)[real]), 3e-5)
  assert np.isfinite(loss).all() and np.isfinite(grad).all()


@pytest.mark.parametrize("name", sorted(losses.COUPLED))
def test_one_pair_alone_is_refused_where_pairs_are_compared(name):
  with pytest.raises(ValueError, match=f"loss.name={name} .*holds 1;"):
    losses.check_together(made(name), 1, "an update holds 1")
  losses.check_together(made(name), 2, "")
  losses.check_together(made("dpo"), 1, "")


def made(name):
  return losses.make(name, vdc.LOSSES[name])
