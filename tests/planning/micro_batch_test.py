"""How many pairs at once: of those that fit, that of the least bound."""

import math
from types import SimpleNamespace

import jax
import pytest
from rich.console import Console

from synpo_jax.planning import (
  chips,
  choices,
  micro_batch,
  outcome,
  session,
  targets,
)
from synpo_jax.planning import trial as trials
from tests.support import run_config


@pytest.fixture
def c(tmp_path):
  """8 x 4 pairs an update, on all devices."""
  c = run_config.get_config(tmp_path)
  c.data.update(batch_size=8, accumulation=4)
  c.micro_batch = "most"
  return c


def test_an_update_keeps_its_pairs_however_it_is_cut():
  assert choices.cuts(8, 4) == [(32, 1), (16, 2), (8, 4)]
  assert choices.cuts(2, 6) == [(12, 1), (6, 2), (4, 3), (2, 6)]
  assert choices.cuts(5, 1) == [(5, 1)]


@pytest.mark.parametrize(
  "limit, best", [(320.0, (32, 1)), (319.0, (16, 2)), (90.0, (8, 4))]
)
def test_without_bounds_the_most_pairs_that_fit_are_taken(c, limit, best):
  asked = []

  def weigh(c, given):
    assert given == limit
    asked.append(c.data.batch_size)
    return 10 * c.data.batch_size, None

  assert micro_batch.most(c, limit, weigh) == (*best, None)
  assert asked == [32, 16][: len(asked)]  # no smaller one than is taken
  assert (c.data.batch_size, c.data.accumulation) == (8, 4)


# Seconds by pairs at once: fewer are better; alike; the best does not fit.
BOUNDS = [
  ({32: 0.9, 16: 0.5, 8: 0.7}, 320.0, 16),
  ({32: 0.9, 16: 0.8, 8: 0.2}, 320.0, 8),
  ({32: 0.5, 16: 0.5, 8: 0.499}, 320.0, 32),
  ({32: 0.1, 16: 0.6, 8: 0.6}, 319.0, 16),
  ({32: 0.1, 16: 0.2, 8: 0.3}, 90.0, 8),
]


@pytest.mark.parametrize("bounds, limit, best", BOUNDS)
def test_a_run_takes_the_least_bound_that_fits(c, bounds, limit, best):
  def weigh(c, _):
    return 10 * c.data.batch_size, bounds[c.data.batch_size]

  size, times, _ = micro_batch.most(c, limit, weigh)
  assert (size, times) == (best, 32 // best)


@pytest.mark.parametrize("bounds, limit, best", BOUNDS)
def test_a_plan_takes_the_least_bound_that_fits(
  c, monkeypatch, capsys, bounds, limit, best
):
  """It is the last of the plan's rows, whose flags are told."""

  def run(c, target, choice, lengths):
    peak = 10.0 * choice.batch_size
    memory = outcome.Memory(*[0.0] * 5, peak, limit)
    seconds = {"compute": 0.1, "links": bounds[choice.batch_size]}
    work = outcome.Work(0.0, 0.0, {}, 0.0, 0.0, seconds)
    return trials.Trial(choice, None, outcome.Outcome(memory, work, 32, 1.0))

  target = targets.Target(chips.parse("v5e:2x2"), [], "")
  monkeypatch.setattr(session.targets, "make", lambda topology: target)
  monkeypatch.setattr(trials, "run", run)
  monkeypatch.setattr(session, "show", lambda *_: None)
  c.mesh.update(data=1, fsdp=4, model=1)
  rows, fits = session.judge(Console(), c, "v5e:2x2", (None, None), 1)
  assert fits and len(rows) == 3
  assert rows[-1]["batch_size"] == best
  assert rows[-1]["accumulation"] == 32 // best
  assert f"at best {bounds[best]:.3g} s an update" in capsys.readouterr().out


@pytest.mark.parametrize(
  "kind, bound, told",
  [
    ("TPU v5 lite", 0.25, "2 x 16 pairs an update, at best 0.25 s"),
    ("TPU v5p", None, "2 x 16 pairs an update; its bound could not be counted"),
    ("cpu", None, "by memory alone: what bounds a step on cpu is not known"),
  ],
)
def test_what_fits_is_set_and_said(c, monkeypatch, capsys, kind, bound, told):
  stats = {"bytes_limit": 1000}
  monkeypatch.setattr(micro_batch, "_told", lambda: stats)
  where = chips.of_kind(kind, 8)
  monkeypatch.setattr(micro_batch, "_here", lambda: where)
  monkeypatch.setattr(
    micro_batch, "weigh", lambda c, _: (50 * c.data.batch_size, bound)
  )
  micro_batch.settle(c)
  assert (c.data.batch_size, c.data.accumulation) == (16, 2)
  assert told in capsys.readouterr().out


def test_a_cpu_does_not_tell_its_memory_and_nothing_changes(c, capsys):
  micro_batch.settle(c)
  assert (c.data.batch_size, c.data.accumulation) == (8, 4)
  said = "does not tell its memory; data.batch_size=8 x data.accumulation=4"
  assert said in capsys.readouterr().out


def test_what_is_given_stays_and_another_word_is_refused(c, capsys):
  c.micro_batch = "given"
  micro_batch.settle(c)
  assert not capsys.readouterr().out
  c.micro_batch = "auto"
  with pytest.raises(ValueError, match="micro_batch=auto: choose given or mo"):
    micro_batch.settle(c)


@pytest.mark.slow
def test_a_step_needs_what_its_compiler_says(c, monkeypatch):
  """At least what is known without one, which is the answer beyond limits."""
  least, unknown = micro_batch.weigh(c, 0.0)
  where = chips.of_kind("TPU v5 lite", 8)
  monkeypatch.setattr(micro_batch, "_here", lambda: where)

  def work(step, text, chips):
    assert step.mesh.size == 8 and "ENTRY" in text and chips is where
    return SimpleNamespace(bound=0.5)

  monkeypatch.setattr(outcome, "work", work)
  most, bound = micro_batch.weigh(c, math.inf)
  assert 0 < least < most
  assert unknown is None and bound == 0.5
  assert len(jax.devices()) == 8
