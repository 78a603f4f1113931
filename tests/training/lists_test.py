"""Lists of judged captions through the model: layouts, lengths, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from configs import vdc
from synpo_jax.data import lists, text
from synpo_jax.models import sharding
from synpo_jax.training import (
  gradients,
  pair_logps,
  reference_cache,
  update,
)
from tests.support import losses_oracle as oracle
from tests.support import text_update
from tests.support.text_update import flat

TOLD = (
  "the red circle stops",
  "a blue square moves left and stops there",
  "no square",
  "a circle",
)
LOSS = dict(name="plackett_luce", coefficients=vdc.LOSSES["plackett_luce"])
ROWS = (
  dict(captions=[TOLD[2], TOLD[0], TOLD[1]], scores=[1.0, 9.0, 4.5]),
  dict(chosen=TOLD[0], rejected=TOLD[3], chosen_score=7, rejected_score=3),
  dict(captions=list(TOLD), scores=[8.5, 6.0, 2.0, 6.0]),
  dict(captions=[TOLD[1], TOLD[3]], scores=[0.25, 0.5]),
)


@pytest.fixture(scope="module")
def tokenizer():
  return text.load_tokenizer("synpo_jax/assets/tiny")


@pytest.fixture(scope="module")
def model(tokenizer):
  return text_update.model(len(tokenizer))


@pytest.fixture(scope="module")
def read(tokenizer, tmp_path_factory):
  folder = tmp_path_factory.mktemp("lists")

  def rows(*own, **settings):
    rows = [row | dict(question="What moves?") for row in own]
    given = folder / "rows.jsonl", tokenizer, lists.MOST, rows
    return text_update.data(*given, **settings)

  return rows


def listed(batch, logps, refs):
  """Rows of the oracle, without padding, in the order of the batch."""
  found = []
  for b, mask in enumerate(batch.response_mask[0]):
    n = int(mask.any(-1).sum())
    xs = [logps[b, c][mask[c]] for c in range(n)]
    us = np.zeros(n) if refs is None else np.float64(refs[b, :n])
    found.append((xs, us, np.float64(batch.scores[0, b, :n])))
  return found


@pytest.fixture(scope="module")
def whole(model, read):
  """The rows in one batch, and what the model makes of it."""
  batch = jax.tree.map(jnp.asarray, read(*ROWS).batches[0])
  return batch, text_update.scored(model, "shared", batch, **LOSS)


def test_lists_of_any_length_in_float64(whole):
  batch, (logps, refs, sums, _) = whole
  assert batch.response.shape[:3] == (1, 4, 4) == (1, *refs.shape)
  rows = listed(batch, logps, refs)
  assert sorted(len(xs) for xs, _, _ in rows) == [2, 2, 3, 4]
  wanted = sum(oracle.plackett_luce(*row) for row in rows)
  np.testing.assert_allclose(sums["loss"], wanted, rtol=1e-5)


def test_a_list_is_beside_longer_ones_what_it_is_alone(model, read, whole):
  alone = read(ROWS[1]).batches[0]
  assert alone.response.shape[:3] == (1, 1, 2)
  score = text_update.objective(model[0], "shared", **LOSS).score
  logps, refs = jax.jit(score)(*model[1:], alone.micro(0), None)
  batch, (others, other_refs, *_) = whole
  same = [b for b in range(4) if batch.scores[0, b, 0] == 4.0]
  mask = alone.response_mask[0, 0]
  (b,) = same
  np.testing.assert_allclose(
    logps[0][mask], others[b, :2][mask], rtol=1e-5, atol=1e-5
  )
  np.testing.assert_allclose(refs[0], other_refs[b, :2], rtol=1e-5)


@pytest.mark.slow
def test_either_layout_learns_the_same(model, whole):
  batch, (logps, _, _, grads) = whole
  ours, _, _, others = text_update.scored(model, "two_sequence", batch, **LOSS)
  mask = batch.response_mask[0]
  np.testing.assert_allclose(ours[mask], logps[mask], atol=2e-5)
  largest = np.abs(flat(grads)).max()
  np.testing.assert_allclose(flat(others), flat(grads), atol=2e-5 * largest)


def test_lists_that_share_rows_learn_the_same(model, read, whole):
  """Rows of 160 positions hold two or three of the four lists."""
  packed = read(*ROWS, packing=160, batch_size=2, accumulation=2).batches
  assert packed.packing.rows.shape[1] > 1
  goal = text_update.objective(model[0], "shared", **LOSS)
  step = jax.jit(lambda *args: gradients.value_and_grad(goal, *args, None))
  found = [step(*model[1:], packed[i]) for i in range(len(packed))]
  sums, grads = jax.tree.map(lambda *leaves: sum(leaves), *found)
  _, (*_, wanted, others) = whole
  assert float(sums["pairs"]) == 4
  for name, value in wanted.items():
    np.testing.assert_allclose(sums[name], value, rtol=1e-5)
  largest = np.abs(flat(others)).max()
  np.testing.assert_allclose(flat(grads), flat(others), atol=2e-5 * largest)


def test_sums_tell_of_best_and_worst(model, whole):
  batch, (logps, refs, *_) = whole
  own = dict(name="synpo_list", coefficients=vdc.LOSSES["synpo_list"])
  judge = text_update.objective(model[0], "shared", **own).judge
  mask, weight, scores = (
    x[0] for x in (batch.response_mask, batch.weight, batch.scores)
  )
  sums = judge(jnp.float32(logps), None, mask, weight, scores)
  rows = listed(batch, logps, refs)
  wanted = sum(oracle.synpo_list(*row) for row in rows)
  np.testing.assert_allclose(sums["loss"], wanted, rtol=1e-5)
  worst = sum(xs[-1].mean() for xs, _, _ in rows)
  np.testing.assert_allclose(sums["rejected_logp"], worst, rtol=1e-5)
  right = 0.0
  for xs, _, given in rows:
    pairs = oracle.ordered(given)
    right += np.mean([xs[i].mean() > xs[j].mean() for i, j in pairs])
  np.testing.assert_allclose(sums["accuracy"], right, rtol=1e-6)
  assert "gold_logp" not in sums


def test_coupled_pairs_of_lists_meet_across_micro_batches(model, whole):
  """All pairs of the update are compared, however it is cut."""
  batch, (logps, refs, *_) = whole
  own = dict(name="bco", coefficients=vdc.LOSSES["bco"], all_pairs=0.5)
  judge = text_update.objective(model[0], "shared", **own).judge
  held = batch._replace(features=jnp.float32(logps)[None], ref_logps=refs[None])

  def score(trained, frozen, rows, key):
    return trained * rows.features, rows.ref_logps

  goal = gradients.Objective(score, judge, coupled=True)
  in_two = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[2:]), held)
  found = [
    gradients.value_and_grad(goal, jnp.float32(1.0), {}, cut, None)
    for cut in (held, in_two)
  ]
  rows = listed(batch, logps, refs)
  fs = oracle.over_pairs("bco", rows, 0.5)
  wanted = sum(f(xs) for f, (xs, _, _) in zip(fs, rows, strict=True))
  for sums, slope in found:
    np.testing.assert_allclose(sums["loss"], wanted, rtol=1e-5)
    np.testing.assert_allclose(slope, found[0][1], rtol=1e-5)
  assert 0.0 in [f(xs) for f, (xs, _, _) in zip(fs, rows, strict=True)]


def test_references_of_lists_are_cached(model, read, whole, tmp_path, capsys):
  """As the step computes them; a second run reads them."""
  made, _, frozen = model
  mesh = sharding.make_mesh(data=1, fsdp=1, model=1, devices=jax.devices()[:1])
  scoring = pair_logps.Scoring("shared", 8, None, None)
  given = made, frozen["params"], tmp_path, mesh, scoring
  attach = reference_cache.make(*given, verify=4)
  _, (_, refs, *_) = whole
  found = attach(read(*ROWS)).batches[0]
  np.testing.assert_allclose(found.ref_logps[0], refs, rtol=1e-5, atol=1e-6)
  assert attach(read(*ROWS)).batches.references.shape == (4, 4)
  said = "references: 0 read, 4 computed; verified 4\nreferences: 4 read, 0 c"
  assert said in capsys.readouterr().out


def test_many_devices_are_one(model, whole):
  """Eight rows over eight devices: twice what four rows are on one."""
  batch, (_, _, sums, grads) = whole
  made, *trees = model
  mesh = sharding.make_mesh(data=8, fsdp=1, model=1)
  variables = update.merge(*trees)
  places = sharding.tree_shardings(variables, mesh)
  trained, frozen = update.split(jax.device_put(variables, places), "lora/.*")
  twice = jax.tree.map(lambda x: np.repeat(x, 2, axis=1), batch)
  spread = jax.device_put(twice, NamedSharding(mesh, P(None, "data")))
  goal = text_update.objective(made, "shared", **LOSS)
  step = jax.jit(lambda *args: gradients.value_and_grad(goal, *args, None))
  both, slopes = step(trained, frozen, spread)
  np.testing.assert_allclose(both["loss"], 2 * sums["loss"], rtol=1e-5)
  twofold = 2 * flat(grads)
  largest = np.abs(twofold).max()
  np.testing.assert_allclose(flat(slopes), twofold, atol=2e-5 * largest)
