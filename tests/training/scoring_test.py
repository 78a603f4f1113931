"""Whoever scores captions of a run holds arrays to training's shardings."""

from types import SimpleNamespace

import pytest

from synpo_jax import importance
from synpo_jax.models import sharding
from synpo_jax.study import cell, grid, looks
from synpo_jax.training import heldout, job, probe, train_steps, update
from tests.support import run_config


class Told(Exception):
  """How is to be scored; nothing need be computed with it."""


def tell(model, scoring, **_):
  raise Told(scoring)


def training(c, run):
  train_steps.make_steps(c, run.model, {}, run.mesh, updates=10)


def the_probe(c, run):
  probe._scorer(run, c)


def study(c):
  return SimpleNamespace(run=c, candidates=SimpleNamespace(new=1))


def the_studys_lens(c, run):
  looks.make_lens(study(c), run)


def the_studys_norms(c, run):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(heldout, "make_scorer", lambda *_: None)
    looks.make_lens(study(c), run).norms(True)


def the_studys_step(c, run):
  method = grid.Method("dpo", "dpo", dict(beta=0.1))
  data = SimpleNamespace(updates=10)
  cell.make_bench(study(c), run, method, data)


def the_importance(c, run):
  importance.jitted(c, run)


@pytest.fixture
def asked(tmp_path, monkeypatch):
  """Returns who scores -> its scoring, of a run split over all axes."""
  c = run_config.get_config(tmp_path)
  c.mesh.update(data=2, fsdp=2, model=2)
  mesh = sharding.make_mesh(**c.mesh)
  run = SimpleNamespace(model=job.make_model(c, mesh), mesh=mesh)
  monkeypatch.setattr(update, "make_objective", tell)
  monkeypatch.setattr(update, "make_reward_norms", tell)
  monkeypatch.setattr(importance, "make_measure", tell)

  def ask(who):
    with pytest.raises(Told) as told:
      who(c, run)
    return told.value.args[0]

  return ask


@pytest.mark.parametrize(
  "who",
  [
    *(the_probe, the_studys_lens, the_studys_norms, the_studys_step),
    the_importance,
  ],
)
def test_all_score_with_the_shardings_of_training(asked, who):
  assert asked(who) == asked(training)
