"""How many pairs at once: the most that fit, an update keeping its own."""

import math

import jax
import pytest

from synpo_jax.planning import choices, micro_batch
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
def test_the_most_pairs_that_fit_are_taken(c, limit, best):
  asked = []

  def needs(c, given):
    assert given == limit
    asked.append(c.data.batch_size)
    return 10 * c.data.batch_size

  assert micro_batch.most(c, limit, needs) == best
  assert asked == [32, 16][: len(asked)]  # no smaller one than is taken
  assert (c.data.batch_size, c.data.accumulation) == (8, 4)


def test_what_fits_is_set_and_said(c, monkeypatch, capsys):
  told = {"bytes_limit": 1000}
  monkeypatch.setattr(micro_batch, "_told", lambda: told)
  monkeypatch.setattr(
    micro_batch, "needs", lambda c, limit: 50 * c.data.batch_size
  )
  micro_batch.settle(c)
  assert (c.data.batch_size, c.data.accumulation) == (16, 2)
  assert "micro_batch=most: 2 x 16 pairs an update" in capsys.readouterr().out


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
def test_a_step_needs_what_its_compiler_says(c):
  """At least what is known without one, which is the answer beyond limits."""
  least = micro_batch.needs(c, 0.0)
  assert 0 < least < micro_batch.needs(c, math.inf)
  assert len(jax.devices()) == 8
