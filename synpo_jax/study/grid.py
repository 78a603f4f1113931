"""Which cells the study runs, and in what order.

A learning rate is a loss's own: it is chosen by the QA accuracy of validation
clips, among cells of one seed, before any other seed is trained. Methods that
only change a coefficient take the rate of their plain loss.
"""

import ast
import itertools
from collections.abc import Iterator
from typing import NamedTuple


class Method(NamedTuple):
  """A loss with its coefficients, under the name of its rows."""

  name: str
  loss: str
  coefficients: dict


class Cell(NamedTuple):
  """A method trained once; `base`, which is not trained, has None twice."""

  method: str
  lr: float | None
  seed: int | None

  @property
  def id(self) -> str:
    """Its name in the journal."""
    return f"{self.method} lr={self.lr} seed={self.seed}"


BASE = Cell("base", None, None)


def parse(name: str, losses: dict[str, dict]) -> Method:
  """The method of a name: a loss, or as "synpo alpha=10" one changed.

  losses: coefficients by loss. Raises ValueError for names not in there.
  """
  loss, *changes = name.split()
  if loss not in losses:
    raise ValueError(
      f"methods: {name!r}: {loss!r} is none of {', '.join(sorted(losses))}"
    )
  coefficients = dict(losses[loss])
  for change in changes:
    key, _, value = change.partition("=")
    if key not in coefficients:
      raise ValueError(
        f"methods: {name!r}: {loss} has no coefficient {key!r}, but "
        f"{', '.join(sorted(coefficients)) or 'none'}"
      )
    coefficients[key] = float(ast.literal_eval(value))
  return Method(name, loss, coefficients)


def cells(
  methods: list[Method],
  rows: dict[str, dict],
  *,
  lrs: tuple[float, ...],
  seeds: tuple[int, ...],
  tuning_seed: int,
) -> Iterator[tuple[Cell, bool]]:
  """Yields (cell, whether it is reported) in order.

  rows: the study's journal by id; a cell's row must be in it when the next
  one is asked for. A cell that was tried and then chosen comes again, now to
  be reported. With a single learning rate nothing is tried.
  """
  yield BASE, True
  rates = {}
  for method in methods:
    if method.loss not in rates:
      tried = [Cell(method.loss, lr, tuning_seed) for lr in lrs]
      if len(lrs) > 1:
        yield from ((cell, False) for cell in tried)
      rates[method.loss] = choose_rate(tried, rows)
    for seed in seeds:
      yield Cell(method.name, rates[method.loss], seed), True


def choose_rate(tried: list[Cell], rows: dict[str, dict]) -> float:
  """The rate with the best validation QA accuracy; the smaller wins a tie."""
  if len(tried) == 1:
    return tried[0].lr

  def merit(cell):
    return rows[cell.id]["validation_qa_accuracy"], -cell.lr

  return max(tried, key=merit).lr


def count(
  methods: list[Method],
  rows: dict[str, dict],
  *,
  lrs: tuple[float, ...],
  seeds: tuple[int, ...],
  tuning_seed: int,
) -> tuple[int, int]:
  """(how many different cells `cells` yields, how many have a row)."""
  losses = {method.loss for method in methods}
  plain = sum(method.name == method.loss for method in methods)
  tried = len(losses) * len(lrs) if len(lrs) > 1 else 0
  shared = plain if tried and tuning_seed in seeds else 0
  names = losses | {method.name for method in methods}
  known = {BASE.id} | {
    Cell(*parts).id
    for parts in itertools.product(names, lrs, {*seeds, tuning_seed})
  }
  total = 1 + tried + len(methods) * len(seeds) - shared
  return total, min(total, len(known & rows.keys()))
