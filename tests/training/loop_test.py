"""The loop on a clock of its own: what is an update's time, and what is not."""

from types import SimpleNamespace

import numpy as np
import pytest

from synpo_jax.runtime import progress
from synpo_jax.training import loop, metrics

STEP, COMPILE, SAVE, PROBE = 2.0, 40.0, 30.0, 15.0  # seconds
LENGTHS = (8, 8, 8, 8, 16, 16, 8, 16, 8, 8)  # of each update's batch


class Machine:
  """A clock, and a device that works while the host goes on."""

  def __init__(self):
    self.now, self.free, self.compiled = 100.0, 0.0, set()

  def spend(self, seconds):
    """Time of the host."""
    self.now += seconds

  def train(self, state, frozen, batch, key):
    """Compiles on the host, then queues a step on the device."""
    if batch["x"].shape not in self.compiled:
      self.compiled.add(batch["x"].shape)
      self.spend(COMPILE)
    self.free = max(self.now, self.free) + STEP
    values = dict(loss=0.5, pairs=4.0, tokens=100.0, skipped_in_a_row=0)
    pending = {name: Later(self, self.free, x) for name, x in values.items()}
    return SimpleNamespace(step=state.step + 1, trained=None), pending


class Later:
  """A number that the device has computed at some time."""

  def __init__(self, machine, at, value):
    self.machine, self.at, self.value = machine, at, value

  def __array__(self, *args, **kwargs):
    self.machine.now = max(self.machine.now, self.at)
    return np.asarray(self.value)


def run(monkeypatch, *, checkpoint=0, evaluate=0, lengths=LENGTHS):
  """Rows of a run on a Machine."""
  machine, rows = Machine(), []
  clock = SimpleNamespace(monotonic=lambda: machine.now)
  for module in (metrics, progress):
    monkeypatch.setattr(module, "time", clock)
  monkeypatch.setattr(loop.sharding, "put_batch", lambda batch, mesh: batch)
  monkeypatch.setattr(loop, "save", lambda *args: machine.spend(SAVE))
  monkeypatch.setattr(loop.checkpoint, "finish", lambda manager: None)
  monkeypatch.setattr(loop.hosts, "say", lambda text: None)
  ready = SimpleNamespace(
    data=SimpleNamespace(updates=len(lengths)),
    steps=SimpleNamespace(train=Steps(machine.train), rate=lambda number: 1e-6),
    mesh=None,
    frozen=None,
  )
  c = SimpleNamespace(
    seed=0,
    stop_after_skips=9,
    keep=SimpleNamespace(patience=0),
    every=SimpleNamespace(
      reward_norms=0, checkpoint=checkpoint, evaluate=evaluate
    ),
  )
  keeper = SimpleNamespace(is_over=lambda: False, is_new=lambda step: False)
  log = SimpleNamespace(write=rows.append, close=lambda: None)
  stream = Batches(lengths)
  probe = (lambda number, trained: machine.spend(PROBE)) if evaluate else None
  state = SimpleNamespace(step=0, trained=None)
  stop = SimpleNamespace(is_set=lambda: False)
  loop.loop(
    ready, c, loop.Saved(None, keeper, log, None), state, stream, probe, stop
  )
  return rows


class Steps:
  """What jax.jit gives, as far as the loop looks at it."""

  def __init__(self, function):
    self.function = function

  def __call__(self, *args):
    return self.function(*args)

  def _cache_size(self):
    return 0


class Batches:
  """A stream of batches that are always there."""

  def __init__(self, lengths):
    self.batches = iter([{"x": np.zeros(n)} for n in lengths])

  def __next__(self):
    return next(self.batches)

  def close(self):
    """Nothing is open."""


@pytest.mark.parametrize("every", [{}, dict(checkpoint=3), dict(evaluate=2)])
def test_an_update_takes_as_long_beside_a_checkpoint(monkeypatch, every):
  rows = run(monkeypatch, **every)
  assert [row["step"] for row in rows] == [*range(1, 11)]
  seconds = [4 / row["pairs_per_s"] for row in rows]
  compiling = [STEP + COMPILE if n in (0, 4) else STEP for n in range(10)]
  np.testing.assert_allclose(seconds, compiling, atol=1e-6)


def test_the_time_that_is_left_counts_no_compiling(monkeypatch, capsys):
  monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
  run(monkeypatch)
  told = [
    line.partition("  ")[0] for line in capsys.readouterr().err.split("\n")
  ]
  assert told[0] == "update 1/10"  # nothing to tell from
  left = [f"update {n}/10, {(10 - n) * STEP:.0f} s left" for n in range(2, 11)]
  assert told[1:10] == left


def test_the_time_that_is_left_counts_checkpoints(monkeypatch, capsys):
  monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
  run(monkeypatch, checkpoint=3, lengths=(8,) * 9)
  *_, seventh, eighth, _, _ = capsys.readouterr().err.split("\n")
  # Six updates after the first, two of them after a checkpoint.
  each = STEP + 2 * SAVE / 6
  assert f"update 7/9, {2 * each:.0f} s left" in seventh
  assert "update 8/9" in eighth
