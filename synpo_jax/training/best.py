"""The best state of a run by one metric, in a workdir of its own; patience.

What was best follows from the rows of eval.jsonl alone, so a run that is
continued knows what an uninterrupted one knows. `workdir`/best holds the run's
config and one checkpoint: every command that reads a workdir reads it.
"""

import contextlib
import math
import pathlib
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from synpo_jax.runtime import hosts, journal, names
from synpo_jax.training import checkpoint, metrics

# Metrics of eval.jsonl: whether more is better, or less.
BETTER = {
  "heldout/cider_d": max,
  "heldout/rouge_l": max,
  "heldout/detail": max,
  "heldout/loss": min,
  "heldout/accuracy": max,
  "heldout/margin": max,
  "reference_logp": max,
  "text_logp": max,
  "repetition": min,
  "distinct_1": max,
  "distinct_2": max,
}


# Keys of the config without which a metric is not there, by its name.
NEEDS = {
  "heldout/cider_d": ("captioning.references",),
  "heldout/rouge_l": ("captioning.references",),
  "heldout/detail": ("captioning.references", "captioning.judge"),
  "heldout/loss": ("heldout.pairs",),
  "heldout/accuracy": ("heldout.pairs",),
  "heldout/margin": ("heldout.pairs",),
  "text_logp": ("language.texts",),
  "repetition": ("heldout.pairs", "language.captions"),
  "distinct_1": ("heldout.pairs", "language.captions"),
  "distinct_2": ("heldout.pairs", "language.captions"),
}


class Standing(NamedTuple):
  """The update after which a metric was best, what it was, rows since."""

  step: int
  value: float
  since: int


def check(c) -> None:
  """Raises ValueError, one line, for a choice that nothing can make."""
  if c.keep.patience and not c.keep.best:
    raise ValueError(
      f"keep.patience={c.keep.patience} waits for keep.best, which is empty; "
      "name a metric there"
    )
  if c.keep.best:
    names.refuse_unknown("keep.best", c.keep.best, BETTER)
    if not c.every.evaluate:
      raise ValueError(
        f"keep.best={c.keep.best} is measured every.evaluate updates, which "
        "is 0; set that"
      )
    needed = NEEDS.get(c.keep.best, ())
    if missing := [key for key in needed if not _value(c, key)]:
      raise ValueError(
        f"keep.best={c.keep.best} is measured where {' and '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} set"
      )


def _value(c, key):
  section, name = key.split(".")
  return c[section][name]


def standing(rows: list[dict], metric: str) -> Standing | None:
  """What rows of eval.jsonl say; None where none has a finite value.

  A later row is better only where it is strictly so. A row without the value
  does not count.
  """
  best = None
  for row in rows:
    value = row.get(metric)
    if value is None or not math.isfinite(value):
      continue
    if best is None or _is_better(value, best.value, metric):
      best = Standing(row["step"], value, 0)
    else:
      best = best._replace(since=best.since + 1)
  return best


def _is_better(value, before, metric) -> bool:
  return value != before and BETTER[metric](value, before) == value


class Keeper:
  """Keeps `workdir`/best; without keep.best it does nothing."""

  def __init__(self, c, workdir: pathlib.Path, manager):
    """manager: of the checkpoints in `workdir`/best (see `opened`)."""
    self._c, self._workdir, self._manager = c, workdir, manager

  def look(self) -> Standing | None:
    """How things stand by the rows so far, alike on all processes."""
    if self._manager is None:
      return None
    found = None
    path = self._workdir / "eval.jsonl"
    if hosts.is_first() and path.exists():
      found = standing(metrics.read_rows(path), self._c.keep.best)
    if jax.process_count() == 1:
      return found
    told = (-1, 0.0, 0) if found is None else found
    told = multihost_utils.broadcast_one_to_all(np.array(told, np.float32))
    step, value, since = told.tolist()
    return None if step < 0 else Standing(int(step), value, int(since))

  def is_new(self, step: int) -> bool:
    """Whether the row of this update is the best so far, and not kept yet."""
    found = self.look()
    return bool(found) and found.step == step and step not in self._kept()

  def is_over(self) -> bool:
    """Whether so many rows in a row were no better that the run should end."""
    found, patience = self.look(), self._c.keep.patience
    return bool(found) and 0 < patience <= found.since

  def save(self, step, state, position, inputs) -> None:
    """Keeps a state as the best; returns when it is on the disk."""
    if hosts.is_first():
      content = (self._workdir / "config.json").read_bytes()
      journal.replace(self._workdir / "best" / "config.json", content)
    config = self._c.to_dict()
    checkpoint.save(self._manager, step, state, position, config, inputs)
    checkpoint.finish(self._manager)

  def forget_after(self, step: int) -> None:
    """Takes out a state that the run, continued after `step`, will make."""
    for later in self._kept():
      if later > step:
        self._manager.delete(later)

  def _kept(self):
    return () if self._manager is None else self._manager.all_steps()

  def say(self) -> None:
    """Says which state is in `workdir`/best."""
    if found := self.look():
      hosts.say(
        f"best {self._c.keep.best}: {found.value:.6g} after update "
        f"{found.step}; --workdir={self._workdir / 'best'} is that state"
      )


@contextlib.contextmanager
def opened(c, workdir: pathlib.Path):
  """A Keeper for the length of a run."""
  if not c.keep.best:
    yield Keeper(c, workdir, None)
    return
  with checkpoint.open_manager(workdir / "best", keep=1) as manager:
    yield Keeper(c, workdir, manager)
