"""Losses of lists against float64 NumPy: ties, short lists, padding, pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vdc
from synpo_jax import losses
from synpo_jax.losses import lists
from tests.support import losses_oracle as oracle
from tests.support.loss_rows import batch, close, value_and_grad

K, R = 5, 6
SCORES = (
  (9.0, 7.5, 4.0, 1.0, 0.5),
  (3.0, 8.0),  # worse first
  (6.0, 6.0, 2.0),  # the best tie
  (1.0, 5.0, 5.0, 5.0, -2.0),
  (0.3, 0.2, 0.1, 0.0),
)


@pytest.fixture(scope="module")
def rows():
  """(rows of float64 lists, their padded arrays); padding holds NaN."""
  low, high = np.log((0.05, 3.0))
  rng = np.random.default_rng(3)
  logps = np.full((len(SCORES), K, R), np.nan, np.float32)
  mask = np.zeros(logps.shape, bool)
  refs = np.full(logps.shape[:2], np.nan, np.float32)
  scores, made = refs.copy(), []
  for b, own in enumerate(SCORES):
    for c, score in enumerate(own):
      n = int(rng.integers(1, R + 1))
      logps[b, c, :n] = -np.exp(rng.uniform(low, high, n))
      mask[b, c, :n] = True
      refs[b, c] = logps[b, c, :n].sum() + 3 * rng.standard_normal()
      scores[b, c] = score
    xs = [np.float64(logps[b, c][mask[b, c]]) for c in range(len(own))]
    made.append((xs, np.float64(refs[b, : len(own)]), np.array(own)))
  return made, tuple(map(jnp.asarray, (logps, mask, refs, scores)))


def computed(loss, logps, mask, refs, scores, weight=None):
  """Loss of each row and the gradient of their sum."""

  def total(logps):
    loss_B = loss(logps, mask, refs, weight, scores)
    return jnp.sum(loss_B), loss_B

  (_, loss_B), grad = jax.value_and_grad(total, has_aux=True)(logps)
  return np.asarray(loss_B), np.asarray(grad)


def check(found, fs, rows, mask, rtol=3e-5):
  values, grads = found
  close(values, [f(xs) for f, (xs, _, _) in zip(fs, rows, strict=True)], 3e-6)
  wanted = np.zeros(grads.shape)
  for b, (f, (xs, _, _)) in enumerate(zip(fs, rows, strict=True)):
    for c, slope in enumerate(oracle.slopes(f, xs)):
      wanted[b, c][mask[b, c]] = slope
  close(grads, wanted, rtol)
  assert not grads[~mask].any()


@pytest.mark.parametrize("name", sorted(losses.LISTS))
@pytest.mark.parametrize("own", [{}, dict(alpha=7.0, beta=0.4)])
def test_a_list_in_float64(rows, name, own):
  """Value and gradient; captions without tokens, and their NaN, count not."""
  held, arrays = rows
  known = vdc.LOSSES[name]
  coefficients = known | {key: own[key] for key in own if key in known}
  f = getattr(oracle, name)
  fs = [
    lambda xs, us=us, y=y: f(xs, us, y, **coefficients) for _, us, y in held
  ]
  loss = losses.make(name, coefficients)
  check(computed(loss, *arrays), fs, held, np.asarray(arrays[1]))


@pytest.mark.parametrize(
  "name, gap",
  [("synpo", 0.2), ("dpo", 2.5), ("bco", 0.2), ("aot", 2.5)],
)
def test_a_loss_of_pairs_over_all_pairs_in_float64(rows, name, gap):
  """A gap of 0.3 - 0.1 is one of 0.2; rows without a pair have loss 0."""
  held, arrays = rows
  weight = jnp.array([1.0, 1, 0, 1, 1]) if name in losses.COUPLED else None
  real = [b for b in range(len(held)) if weight is None or weight[b]]
  loss = losses.make(name, vdc.LOSSES[name], gap)
  found = computed(loss, *arrays, weight)
  near, own = gap * (1 - 1e-9), [held[b] for b in real]
  fs = oracle.over_pairs(name, own, near, **vdc.LOSSES[name])
  check([x[real] for x in found], fs, own, np.asarray(arrays[1])[real])
  assert (gap < 1) == bool(found[0][4]) == found[1][4].any()


def as_lists(logps, mask, refs):
  """Pairs as lists of two, the worse caption first, a caption of padding."""
  nothing = jnp.full((*logps.shape[:1], 1, logps.shape[2]), jnp.nan)
  stack = lambda x, end: jnp.concatenate([x[:, ::-1], end], axis=1)  # noqa: E731
  scores = jnp.array([[3.7, 11.2, 50.0]] * len(logps))
  refs = stack(refs, jnp.zeros((len(logps), 1)))
  return stack(logps, nothing), stack(mask, nothing > 0), refs, scores


@pytest.mark.parametrize(
  "name, pairwise, exact",
  [("synpo_list", "synpo", True), ("plackett_luce", "dpo", False)],
)
def test_two_captions_are_a_pair(name, pairwise, exact):
  """SynPO to the bit, whatever the scores; DPO but for its log-sum-exp."""
  _, *arrays = batch(2, low=0.05, high=3.0)
  loss = losses.make(name, vdc.LOSSES[name])
  value, grad = computed(loss, *as_lists(*arrays))
  pair, slope = value_and_grad(pairwise, *arrays)
  grad = grad[:, 1::-1]
  if exact:
    np.testing.assert_array_equal(value, pair)
    np.testing.assert_allclose(grad, slope, rtol=1e-6)
  else:
    close(value, pair, 1e-6)
    close(grad, slope, 1e-5)


def test_a_judges_unit_and_zero_drop_out_of_synpo(rows):
  """10 points on a scale of 100 are 1 on one of 10; order is all to PL."""
  _, (logps, mask, refs, scores) = rows
  loss = losses.make("synpo_list", vdc.LOSSES["synpo_list"])
  value, grad = computed(loss, logps, mask, refs, scores)
  other = computed(loss, logps, mask, refs, 100 * scores - 7)
  close(other[0], value, 1e-6)
  close(other[1], grad, 1e-5)
  order = losses.make("plackett_luce", dict(beta=0.1))
  value, grad = computed(order, logps, mask, refs, scores)
  other = computed(order, logps, mask, refs, scores**3)
  np.testing.assert_array_equal(other[0], value)


@pytest.mark.parametrize("name", [*sorted(losses.LISTS), "dpo"])
def test_where_all_tie_nothing_is_ranked(rows, name):
  _, (logps, mask, refs, scores) = rows
  coefficients = vdc.LOSSES[name] | ({"beta": 0.0} if "synpo" in name else {})
  pairs = 1.0 if name == "dpo" else None
  loss = losses.make(name, coefficients, pairs)
  value, grad = computed(loss, logps, mask, refs, 0 * scores + 4)
  assert not value.any() and not np.abs(grad).max() > 1e-6


def test_accuracy_is_the_share_of_ordered_pairs():
  geo = jnp.array([[0.5, 0.6, 0.4, 0.9], [0.5, 0.4, 0.3, 0.0]])
  mask = jnp.ones((2, 4, 1), bool).at[0, 3].set(False)
  scores = jnp.array([[3.0, 2.0, 2.0, 9.0], [4.0, 3.0, 2.0, 1.0]])
  found = lists.ranked_rightly(geo, mask, scores)
  np.testing.assert_allclose(found, [0.5, 1.0])


def test_a_mixture_reads_list_pairs_and_the_best(rows):
  _, arrays = rows
  terms = {
    "synpo_list": dict(weight=0.5, **vdc.LOSSES["synpo_list"]),
    "dpo": dict(weight=2.0, beta=0.1),
    "sft": dict(weight=0.3),
  }
  mixed = losses.make("mine", terms, 2.0)
  assert (mixed.lists, mixed.captions) == (True, 16)
  value, _ = computed(mixed, *arrays)
  parts = [
    losses.make("synpo_list", vdc.LOSSES["synpo_list"]),
    losses.make("dpo", vdc.LOSSES["dpo"], 2.0),
    losses.make("sft", {}),
  ]
  shares = zip((0.5, 2.0, 0.3), parts, strict=True)
  wanted = sum(share * computed(x, *arrays)[0] for share, x in shares)
  close(value, wanted, 1e-6)
  assert str(mixed).endswith("0.3 sft, all pairs 2 or more apart")


@pytest.mark.parametrize(
  "name, coefficients, gap, said",
  [
    ("dpo", dict(beta=0.1), 0, "loss.all_pairs=0: the least gap"),
    ("dpo", dict(beta=0.1), True, "loss.all_pairs=True: "),
    ("dpo", dict(beta=0.1), float("nan"), "loss.all_pairs=nan: "),
    ("sft", {}, 1.0, "loss.name=sft is no loss of pairs; set"),
    ("plackett_luce", dict(beta=0.1), 1.0, "plackett_luce is no loss of pairs"),
    ("tpo", dict(beta=0.1, alpha=1.0), 1.0, "tpo is no loss of pairs"),
    (
      "mine",
      dict(plackett_luce=dict(weight=1, beta=0.1), dpo=dict(weight=1, beta=1)),
      None,
      "plackett_luce reads a whole list and dpo pairs; set loss.all_pairs",
    ),
    ("gdpo", vdc.MIXTURES["gdpo"], 1.0, "gold_nll reads a reference caption"),
    (
      "mine",
      dict(plackett_luce=dict(weight=1, beta=0.1), gold_nll=dict(weight=1)),
      None,
      "gold_nll reads a reference caption",
    ),
  ],
)
def test_what_does_not_go_together_is_refused(name, coefficients, gap, said):
  with pytest.raises(ValueError, match=said) as error:
    losses.make(name, coefficients, gap)
  assert "\n" not in str(error.value)


def test_rows_without_a_pair_far_enough_apart_are_not_let_in():
  for gap in (None, 1.0):
    with pytest.raises(ValueError, match=f"data.min_score_gap={gap} lets in"):
      losses.check_gap(2.0, gap)
  losses.check_gap(2.0, 2.0)
  losses.check_gap(None, None)


def test_a_list_without_its_reference_is_refused(rows):
  _, (logps, mask, _, scores) = rows
  with pytest.raises(ValueError, match="ref_logps is missing"):
    losses.plackett_luce(logps, mask, beta=0.1, scores=scores)
