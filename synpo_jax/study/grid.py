"""The cells of a study, and how learning rates are chosen.

A learning rate is a loss's own: it is chosen by F1 of claims on validation
clips, among cells of one seed, before any other seed is trained. Methods that
only change a coefficient take the rate of their plain loss.
"""

import ast
import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Method(NamedTuple):
  """A loss with its coefficients, under the name of its rows."""

  name: str
  loss: str
  coefficients: dict


class Cell(NamedTuple):
  """A method trained once, or a captioner that is not trained at all.

  kind: base (not trained), rate (tried on validation clips), cell (scored on
  test clips), control (not trained, but nudged), second (trained on pairs of a
  trained captioner) or collapse (trained too far).
  """

  method: str
  lr: float | None = None
  seed: int | None = None
  kind: str = "cell"

  @property
  def id(self) -> str:
    """Its name in the journal."""
    return f"{self.kind}: {self.method} lr={self.lr} seed={self.seed}"


BASE = Cell("base", kind="base")


def parse(name: str, losses: dict[str, dict]) -> Method:
  """The method of a name: a loss, or as "synpo alpha=10" one changed.

  A mixture's is changed as "mpo dpo.weight=1".

  losses: coefficients by loss. Raises ValueError for names not in there.
  """
  loss, *changes = name.split()
  if loss not in losses:
    raise ValueError(
      f"methods: {name!r}: {loss!r} is none of {', '.join(sorted(losses))}"
    )
  coefficients = copy.deepcopy(dict(losses[loss]))
  for change in changes:
    key, _, value = change.partition("=")
    part, _, own = key.rpartition(".")
    held = coefficients.get(part, {}) if part else coefficients
    if own not in held:
      raise ValueError(
        f"methods: {name!r}: {loss} has no coefficient {key!r}, but "
        f"{', '.join(sorted(coefficients)) or 'none'}"
      )
    word = isinstance(held[own], str)
    held[own] = value if word else float(ast.literal_eval(value))
  return Method(name, loss, coefficients)


def climb(
  loss: str,
  rows: dict[str, dict],
  *,
  lrs: Sequence[float],
  lr_start: float,
  tuning_seed: int,
) -> Iterator[Cell]:
  """Yields cells to be tried until the best rate's neighbours are, too.

  rows: the study's journal by id; a cell's row must be in it when the next
  one is asked for. Begins with lr_start and both its neighbours.
  """
  tried, at = [], list(lrs).index(lr_start)
  while True:
    near = [n for n in (at - 1, at, at + 1) if 0 <= n < len(lrs)]
    if new := [n for n in near if n not in tried]:
      yield from (Cell(loss, lrs[n], tuning_seed, "rate") for n in new)
      tried += new
      rate = best_rate(
        [Cell(loss, lrs[n], tuning_seed, "rate") for n in tried], rows
      )
      at = list(lrs).index(rate)
    else:
      return


TIE = 0.01  # of F1: less than its standard error over the validation clips


def best_rate(tried: Sequence[Cell], rows: dict[str, dict]) -> float:
  """The rate with the best F1 of validation clips; the larger wins a tie."""
  best = max(rows[cell.id]["f1"] for cell in tried)
  return max(cell.lr for cell in tried if rows[cell.id]["f1"] >= best - TIE)
