"""Cached references: those of the step, once; training with what is cached."""

import contextlib
import io
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs import vdc
from synpo_jax.data import records
from synpo_jax.models import sharding
from synpo_jax.training import (
  caches,
  optim,
  pair_logps,
  reference_cache,
  update,
)
from tests.support.cached_data import (
  features,
  make_setting,
  read,
  said,
  write_pairs,
)

pytestmark = pytest.mark.slow

SCORING = pair_logps.Scoring("shared", 8, None, None)
DPO = dict(name="dpo", coefficients=dict(beta=0.1))


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
  """A captioner, data for it, and its update by DPO."""
  made = make_setting(tmp_path_factory.mktemp("references"))
  made.tx, _ = optim.make(**made.c.optim, updates=4)
  objective = update.make_objective(made.model, SCORING, **DPO)
  step = update.make_train_step(objective, made.tx, dropout=False)
  made.step = jax.jit(step)
  return made


@pytest.fixture(scope="module")
def filled(setting):
  """The data of the three videos with their cached features."""
  data = read(setting, setting.folder / "cache")
  return features(setting, setting.folder / "cache")(data)


def references(setting, cache, verify=0):
  params = setting.variables["params"]
  return reference_cache.make(
    setting.model, params, cache, setting.mesh, SCORING, verify=verify
  )


@pytest.fixture(scope="module", params=["features", "text"])
def case(request, setting, filled):
  """Data with a video and of text alone, and their cached references."""
  data, cache = filled, setting.folder / f"cache_{request.param}"
  if request.param == "text":
    folder = setting.folder / "text"
    folder.mkdir()
    write_pairs(folder, [None] * 3)
    data = read(setting, cache, pairs=str(folder / "pairs.jsonl"))
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    cached = references(setting, cache, verify=4)(data)
  return SimpleNamespace(
    data=data, cache=cache, cached=cached, said=printed.getvalue()
  )


def train(setting, batches):
  """Losses of DPO updates, and the adapter they leave."""
  trained, frozen = update.split(setting.variables, "lora/.*")
  state, losses = update.init_state(trained, setting.tx), []
  for index in range(len(batches)):
    batch = sharding.put_batch(batches[index], setting.mesh)
    state, metrics = setting.step(state, frozen, batch, jax.random.key(0))
    losses.append(float(metrics["loss"]))
  return np.array(losses), state.trained


def test_cached_references_are_those_of_the_step(setting, case):
  assert case.said == "references: 0 read, 3 computed; verified 3\n"
  in_step = jax.jit(
    lambda variables, batch: pair_logps.reference_logps(
      setting.model, variables, batch, SCORING
    )
  )
  batch = case.data.batches[0].micro(0)
  np.testing.assert_allclose(
    case.cached.batches[0].ref_logps[0],
    in_step(setting.variables, batch),
    rtol=1e-6,
  )


def test_cached_references_train_as_those_of_the_step(setting, filled):
  losses, adapter = train(setting, filled.batches)
  attach = references(setting, setting.folder / "cache_features")
  same, other = train(setting, attach(filled).batches)
  np.testing.assert_allclose(same, losses, rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), adapter, other
  )
  assert np.ptp(losses) > 1e-3  # it learned


def test_rows_are_computed_once_whatever_the_order(setting, case, capsys):
  again = references(setting, case.cache)(case.data)
  assert said(capsys) == ["references: 3 read, 0 computed; verified 0"]
  values = again.batches.references
  np.testing.assert_array_equal(values, case.cached.batches.references)
  for index in range(len(again.batches)):
    batch = again.batches[index]
    real = batch.row >= 0
    np.testing.assert_array_equal(
      batch.ref_logps[real], values[batch.row[real]]
    )


def test_what_the_reference_reads_is_in_the_key(setting, filled):
  data = read(setting, setting.folder / "cache")
  keys = reference_cache.row_keys(data)
  assert len(set(keys)) == 3
  assert not set(keys) & set(reference_cache.row_keys(filled))
  rows = data.batches.rows
  for field in ("prefix", "response"):
    ragged = getattr(rows, field)
    values = ragged.values.copy()
    values[ragged.starts[1] - 1] += 1
    ragged = type(ragged)(values, ragged.starts)
    changed = rows._replace(**{field: ragged})
    other = data.batches.once(np.arange(3))
    other.rows = changed
    now = reference_cache.row_keys(data._replace(batches=other))
    assert [a == b for a, b in zip(keys, now, strict=True)] == [False, 1, 1]
  name = reference_cache._setting
  params, model = setting.variables["params"], setting.model
  plain = model.clone(lora=None)
  assert name(plain, params) == name(model, params)
  assert name(model.clone(dtype="bfloat16"), params) != name(model, params)
  scale = {"scale": params["decoder"]["norm"]["scale"] * 1.001}
  decoder = params["decoder"] | {"norm": scale}
  assert name(model, params | {"decoder": decoder}) != name(model, params)


def test_a_wrong_reference_is_found_at_the_start(setting, filled, tmp_path):
  references(setting, tmp_path)(filled)
  (folder,) = tmp_path.glob("references-*")
  entries = records.inventory(folder)
  reader = records.Reader(list(entries.values()))
  wrong = {key: reader(n) * np.float32(1.001) for n, key in enumerate(entries)}
  for path in folder.glob("*.*"):
    path.unlink()
  records.write(folder, wrong)
  with pytest.raises(ValueError, match="pair 0 is .*delete that folder"):
    references(setting, tmp_path, verify=1)(filled)


def test_features_change_the_losses_by_their_rounding_only(setting, filled):
  """bfloat16 has 8 bits; a loss of DPO starts at log 2 for any features."""
  data = read(setting, setting.folder / "cache")
  exact, _ = train(setting, data.batches)
  rounded, _ = train(setting, filled.batches)
  np.testing.assert_allclose(rounded, exact, rtol=2e-3)
  assert (rounded != exact).any()


def make_caches(c, setting):
  """The caches of a run that begins at the checkpoint."""
  given = setting.model, setting.variables, setting.mesh
  return caches.make(c, *given, setting.variables["params"])


def test_references_stay_those_of_the_start_where_whole_weights_train(
  setting, tmp_path
):
  """The loss after two updates, by hand, with the references of either."""
  write_pairs(tmp_path, [None] * 3)
  pairs, cache = tmp_path / "pairs.jsonl", tmp_path / "cache"
  data = read(setting, cache, pairs=str(pairs))
  c = setting.c.copy_and_resolve_references()
  c.trainable, c.loss = "(lora|params/decoder)/.*", DPO
  c.cache.features, c.data.cache = False, str(cache)
  cached = make_caches(c, setting)(data)
  host = cached.batches[0]
  batch = sharding.put_batch(host, setting.mesh)
  trained, frozen = update.split(setting.variables, c.trainable)
  states = [update.init_state(trained, setting.tx)]
  for _ in range(3):
    state, metrics = setting.step(states[-1], frozen, batch, jax.random.key(0))
    states.append(state)
  now = update.merge(states[2].trained, frozen)

  @jax.jit
  def sums(variables, batch):
    logps = pair_logps.pair_logps(setting.model, variables, batch, SCORING)
    reference = pair_logps.reference_logps(
      setting.model, variables, batch, SCORING
    )
    return logps.sum(-1, where=batch.response_mask), reference

  policy, drifted = sums(now, host.micro(0))
  _, start = sums(setting.variables, host.micro(0))
  real = host.row[0] >= 0

  def loss(reference):
    gains = np.asarray(policy - reference)[real]
    return np.log1p(np.exp(-0.1 * (gains[:, 0] - gains[:, 1]))).mean()

  np.testing.assert_allclose(host.ref_logps[0][real], start[real], rtol=1e-5)
  np.testing.assert_allclose(metrics["loss"], loss(start), rtol=1e-4)
  assert abs(loss(drifted) - loss(start)) > 1e-2


def test_what_training_changes_is_not_cached(setting, filled):
  c = setting.c.copy_and_resolve_references()

  def make(pattern):
    c.trainable = pattern
    return make_caches(c, setting)

  with pytest.raises(ValueError, match="cache.features needs a frozen tower"):
    make("params/.*")
  c.cache.features, c.cache.references, c.loss = False, False, DPO
  assert make("lora/.*")(filled) is filled  # the adapter off is the start
  said = "weights at the start, .* changes projector; set cache.references=True"
  with pytest.raises(ValueError, match=said):
    make("(lora|params/projector)/.*")
  c.loss = dict(
    name="synpo", coefficients=vdc.LOSSES["synpo"]
  )  # has no reference
  assert make("params/.*")(filled) is filled
