"""The update against the official release's arrays (golden/README.md).

Measured float32 noise: losses 3e-7, gradients 2e-5 of the largest entry,
norms 2e-6 relative, the optimiser run 1e-6. Tolerances are some times that
and well below what a planted bug costs.
"""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from synpo_jax.data.batch import Batch
from synpo_jax.models import sharding
from synpo_jax.training import optim, update
from synpo_jax.training.gradients import value_and_grad
from synpo_jax.training.pair_logps import Scoring
from tests.support.golden_captioner import expand, lora_tree, read_captioner

pytestmark = pytest.mark.slow

SYNPO = dict(name="synpo", coefficients=dict(alpha=30.0, beta=0.2))
DPO = dict(name="dpo", coefficients=dict(beta=0.1))


def scoring(layout):
  return Scoring(layout, 8, head_sharding=None, rows_sharding=None)


@pytest.fixture(scope="module", params=["a", "b"])
def case(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp("golden")
  z, model, variables = read_captioner(request.param, folder)
  trained, frozen = update.split(variables, "lora/.*")
  batch = make_batch(z, model, variables)
  return SimpleNamespace(
    z=z, model=model, trained=trained, frozen=frozen, batch=batch
  )


def make_batch(z, model, variables):
  """One micro-batch [1, B, ...] of all pairs, with cached tower features."""
  pairs, K = len(z["frames_per_pair"]), model.config.tokens_per_frame
  prompts = [expand(z[f"input_ids/{b}"], K) for b in range(pairs)]
  captions = [
    [z[f"{which}_ids/{b}"] for which in ("chosen", "rejected")]
    for b in range(pairs)
  ]
  P_, R = (
    8 + max(map(len, prompts)),
    3 + max(len(c) for p in captions for c in p),
  )
  prefix, prefix_mask = (
    np.zeros((pairs, P_), "int32"),
    np.zeros((pairs, P_), bool),
  )
  response = np.zeros((pairs, 2, R), "int32")
  response_mask = np.zeros((pairs, 2, R), bool)
  for b, ids in enumerate(prompts):
    prefix[b, P_ - len(ids) :], prefix_mask[b, P_ - len(ids) :] = ids, True
    for c, caption in enumerate(captions[b]):
      response[b, c, : len(caption)] = caption
      response_mask[b, c, : len(caption)] = True
  batch = Batch(
    prefix=prefix,
    prefix_mask=prefix_mask,
    response=response,
    response_mask=response_mask,
    weight=np.ones(pairs, "float32"),
    row=np.arange(pairs, dtype="int32"),
    features=features(z, model, variables),
  )
  return jax.tree.map(lambda x: jnp.asarray(x)[None], batch)


def features(z, model, variables):
  """Tower features [B, F, K, Dv]; rows with fewer frames end in zeros."""
  pixels = z["pixel_values"].astype("float32").transpose(0, 2, 3, 1)
  encoded = np.asarray(
    model.apply(variables, jnp.asarray(pixels)[None], method="encode_pixels")
  )[0]
  counts = z["frames_per_pair"]
  out = np.zeros((len(counts), counts.max(), *encoded.shape[1:]), "float32")
  for b, start in enumerate(np.cumsum(counts) - counts):
    out[b, : counts[b]] = encoded[start : start + counts[b]]
  return out


def micro_batches(batch):
  """The same pairs as B micro-batches of one."""
  return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), batch)


def in_twos(batch):
  """The same pairs in micro-batches of two, the last with filler rows."""
  count = batch.weight.shape[1]
  rows = np.append(np.arange(count), [0] * (2 - count % 2))
  filled = jax.tree.map(
    lambda x: x[0, rows].reshape(-1, 2, *x.shape[2:]), batch
  )
  real = np.arange(len(rows)).reshape(-1, 2) < count
  return filled._replace(weight=jnp.asarray(real, jnp.float32))


def gradients(case, batch, loss, layout):
  objective = update.make_objective(case.model, scoring(layout), **loss)

  @jax.jit
  def compute(trained, frozen, batch):
    sums, grads = value_and_grad(objective, trained, frozen, batch, None)
    return jax.tree.map(lambda g: g / sums["pairs"], grads), sums

  grads, sums = compute(case.trained, case.frozen, batch)
  return grads["lora"], update.means(sums)


def theirs(z, prefix, layers):
  """The official gradients as our tree; only what the file holds."""
  return lora_tree(z, prefix, layers)


@pytest.mark.parametrize(
  ("layout", "change"),
  [
    ("shared", None),
    ("two_sequence", None),
    ("shared", in_twos),
  ],
)
def test_synpo_loss_and_lora_gradients(case, layout, change):
  batch = change(case.batch) if change else case.batch
  is_official(case, *gradients(case, batch, SYNPO, layout))


def is_official(case, ours, means):
  z = case.z
  np.testing.assert_allclose(means["loss"], z["synpo/loss"], atol=5e-6)
  check = "synpo_check/micro/"
  for name, field in (("chosen", "pos"), ("rejected", "neg")):
    np.testing.assert_allclose(
      means[f"{name}_logp"], z[f"{check}{field}_rewards"], atol=5e-6
    )
  expected = theirs(z, "synpo/grad/", case.model.config.decoder.layers)
  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
  jax.tree.map(
    lambda o, e: np.testing.assert_allclose(o, e, atol=1e-4 * largest),
    ours,
    expected,
  )


def test_dpo_compares_with_the_adapter_off(case):
  grads, means = gradients(case, case.batch, DPO, "shared")
  np.testing.assert_allclose(means["loss"], case.z["dpo/loss"], atol=5e-6)
  elements = sum(leaf.size for leaf in jax.tree.leaves(case.trained))
  norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(grads)))
  np.testing.assert_allclose(
    norm / elements,
    case.z["dpo_check/batch/normalized_gradient_l2_norm"],
    rtol=1e-4,
  )


@pytest.mark.parametrize("loss", ["synpo", "dpo"])
def test_reward_gradient_norms(case, loss):
  norms = jax.jit(
    update.make_reward_norms(
      case.model, scoring("shared"), summed=loss == "dpo"
    )
  )
  for kind, batch in (
    ("batch", case.batch),
    ("micro", micro_batches(case.batch)),
  ):
    ours = norms(case.trained, case.frozen, batch)
    for name, field in (("chosen", "pos"), ("rejected", "neg")):
      np.testing.assert_allclose(
        ours[f"{name}_reward_grad_norm"],
        case.z[f"{loss}_check/{kind}/{field}_l2_norm"],
        rtol=1e-4,
      )


@pytest.fixture(scope="module")
def training(case):
  """The official run: optimiser, rate, step and the batch of an update."""
  settings = json.loads(str(case.z["train/settings"]))
  tx, rate = optim.make(
    lr=settings["lr"],
    lr_projector=None,
    lr_tower=None,
    warmup_frac=settings["warmup"],
    weight_decay=settings["weight_decay"],
    b1=settings["betas"][0],
    b2=settings["betas"][1],
    eps=settings["eps"],
    clip_norm=None,
    updates=len(case.z["train/loss"]),
  )
  objective = update.make_objective(case.model, scoring("shared"), **SYNPO)
  step = jax.jit(update.make_train_step(objective, tx, dropout=False))
  pairs, group = len(case.z["frames_per_pair"]), settings["accumulation"]
  singles = micro_batches(case.batch)

  def batch(number):
    turn = (number * group + np.arange(group)) % pairs
    return jax.tree.map(lambda x: x[turn], singles)

  return SimpleNamespace(tx=tx, rate=rate, step=step, batch=batch)


def query_adapter(state):
  return state.trained["lora"]["decoder"]["layers"]["attn"]["q"]


def test_a_training_run(case, training):
  z, key = case.z, jax.random.key(0)
  state = update.init_state(case.trained, training.tx)
  elements = sum(leaf.size for leaf in jax.tree.leaves(case.trained))
  for number in range(len(z["train/loss"])):
    np.testing.assert_allclose(
      training.rate(number), z["train/lr_used"][number], rtol=1e-6
    )
    batch = training.batch(number)
    state, metrics = training.step(state, case.frozen, batch, key)
    for ours, field in (
      (metrics["loss"], "loss"),
      (metrics["chosen_logp"], "pos_prob"),
      (metrics["rejected_logp"], "neg_prob"),
    ):
      np.testing.assert_allclose(ours, z[f"train/{field}"][number], atol=1e-4)
    np.testing.assert_allclose(
      metrics["grad_norm"] / elements,
      z["train/normalized_gradient_l2_norm"][number],
      rtol=1e-3,
    )
  final = "train/final/base_model.model.model.layers.0.self_attn.q_proj.lora_"
  q = query_adapter(state)
  for leaf, letter in (("a", "A"), ("b", "B")):
    np.testing.assert_allclose(
      q[leaf][0].T, z[f"{final}{letter}.weight"], atol=2e-5
    )


def test_a_gradient_that_is_not_finite_changes_nothing(case, training):
  good, key = training.batch(0), jax.random.key(0)
  bad = good._replace(features=good.features.at[0].set(np.nan))
  before = update.init_state(case.trained, training.tx)
  state, metrics = training.step(before, case.frozen, bad, key)
  jax.tree.map(np.testing.assert_array_equal, state.trained, before.trained)
  jax.tree.map(np.testing.assert_array_equal, state.opt, before.opt)
  assert int(metrics["skipped"]) == int(metrics["skipped_in_a_row"]) == 1
  for _ in range(2):  # the rate may begin at 0
    state, _ = training.step(state, case.frozen, good, key)
  assert (int(state.skipped), int(state.in_a_row)) == (1, 0)
  assert int(state.step) == 3
  assert not np.array_equal(
    query_adapter(state)["a"], query_adapter(before)["a"]
  )


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2)])
def test_every_mesh_gives_the_same_gradients(case, shape):
  """Eight copies of each pair: their mean is the official one."""
  data, fsdp, model = shape
  mesh = sharding.make_mesh(data=data, fsdp=fsdp, model=model)
  batch = jax.tree.map(lambda x: jnp.repeat(x, 8, axis=1), case.batch)
  variables = update.merge(case.trained, case.frozen)
  places = sharding.tree_shardings(variables, mesh)
  spread = jax.device_put(variables, places)
  trained, frozen = update.split(spread, "lora/.*")
  rows = NamedSharding(mesh, P(None, ("data", "fsdp")))
  on_mesh = SimpleNamespace(model=case.model, trained=trained, frozen=frozen)
  ours, means = gradients(on_mesh, jax.device_put(batch, rows), SYNPO, "shared")
  is_official(case, ours, means)


def test_a_pattern_that_matches_nothing_is_refused():
  with pytest.raises(ValueError, match="matches no weight"):
    update.split({"params": {"w": jnp.zeros(2)}}, "lora/.*")


def test_a_loss_with_a_reference_needs_an_adapter(case):
  with pytest.raises(ValueError, match="without its adapter"):
    update.make_objective(case.model.clone(lora=None), scoring("shared"), **DPO)
