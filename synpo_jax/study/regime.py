"""One regime of the study: a captioner, its pairs, and every method on them."""

import functools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from synpo_jax.runtime import journal
from synpo_jax.runtime import progress as progress_bar
from synpo_jax.study import candidates, cell, grid, looks, marking, material
from synpo_jax.study.grid import Cell, Method
from synpo_jax.study.marking import Site
from synpo_jax.world import rows as world_rows

REGIMES = ("style", "truth")


def run(c, name: str, workdir: pathlib.Path, captioner, ground, lens, bench):
  """Makes the cells that are missing; returns the regime's rows in order.

  Args:
    c: the study's config. name: of REGIMES.
    lens: looks.make_lens's. bench: as of `marking.Site`.

  Raises ValueError for what the config cannot mean.
  """
  c = own(c, name)
  folder = workdir / name
  folder.mkdir(parents=True, exist_ok=True)
  policy = teach(c, captioner, ground, folder, bench)
  splits = ("train", "validation", "test")
  pairs = candidates.make_pairs(c, policy, ground, folder, splits, c.pairs)
  site = Site(
    c,
    folder,
    policy,
    ground,
    pairs["train"],
    looks.hold(c, policy, ground, "validation", pairs["validation"]),
    looks.hold(c, policy, ground, "test", pairs["test"]),
    lens,
    bench,
  )
  mark = {"regime": name, "recipe": material.mark(c)}
  return _rows(site, folder / "cells.jsonl", mark)


def own(c, name: str):
  """The config with the sections of a regime in their places."""
  if name not in REGIMES:
    raise ValueError(f"regimes: {name!r} is none of {', '.join(REGIMES)}")
  if c.tuning_seed in c.seeds:
    raise ValueError(f"seeds: {c.tuning_seed} is the tuning_seed; take others")
  c = c.copy_and_resolve_references()
  with c.unlocked():
    for key, value in c[name].items():
      c[key] = value
  return c


def teach(c, captioner, ground, folder, bench) -> material.Captioner:
  """The captioner after c.policy.updates on captions of a mixture."""
  if not c.policy.updates:
    return captioner
  rows = []
  most = c.policy.updates * c.run.data.batch_size
  for video in ground.splits["policy"][:most]:
    scene = ground.scenes[video]
    rng = np.random.default_rng([scene.seed, 4])
    clip = f"clips/{video}.mp4"
    rows.append(
      world_rows.mixture_row(scene, clip, rng, dict(c.policy.shares))
      | {"id": video}
    )
  path = folder / "mixture.jsonl"
  journal.rewrite(path, rows)

  def train():
    data = material.read_data(c, captioner, ground, path, captions=1)
    compiled = bench(captioner, Method("sft", "sft", {}), data)
    return cell.train(captioner, compiled, data, c.policy.lr, seed=0).adapter

  adapter = marking.kept(captioner, folder / "policy.msgpack", train)
  return cell.merged(captioner, adapter)


def _rows(site: Site, path: pathlib.Path, mark: dict) -> list[dict]:
  c = site.c
  methods = [grid.parse(name, c.losses.to_dict()) for name in c.methods]
  found = []
  with journal.extend(path) as (rows, append):
    total = _reckoned(c, methods)
    done = min(total, len(rows))
    with progress_bar.bar(f"{site.folder.name}: cells", total, done=done) as on:
      for one, make in _cells(site, methods, rows):
        if one.id not in rows:
          append({"id": one.id, **one._asdict(), **make(site, one)} | mark)
          more = len(rows) < total  # a climb may be longer than reckoned
          on(int(more), note=f"{one.id}: F1 {rows[one.id]['f1']:.3f}")
        found.append(rows[one.id])
  return found


RATES = 4  # that a climb is reckoned to try


def _reckoned(c, methods) -> int:
  """Cells in all, where each climb tries `RATES`."""
  climbs = len({method.loss for method in methods})
  names = c.methods
  again = sum(name in names for name in c.second) * len(c.seeds)
  too_far = sum(name in names for name in c.collapse)
  cells = len(methods) * len(c.seeds)
  return 1 + RATES * climbs + cells + len(marking.CONTROLS) + again + too_far


def _cells(site, methods, rows) -> Iterator[tuple[Cell, Callable]]:
  """(cell, what makes its row) in order; `rows` is the journal by id."""
  c = site.c
  yield grid.BASE, marking.base
  base = rows[grid.BASE.id]
  rates = {}
  for method in methods:
    if method.loss not in rates:
      tried = []
      ladder = dict(lrs=c.lrs, lr_start=c.lr_start, tuning_seed=c.tuning_seed)
      for one in grid.climb(method.loss, rows, **ladder):
        tried.append(one)
        yield one, marking.rate
      rates[method.loss] = grid.best_rate(tried, rows)
    for seed in c.seeds:
      one = Cell(method.name, rates[method.loss], seed)
      yield one, functools.partial(marking.scored, base=base)
  like = Cell(methods[0].name, rates[methods[0].loss], c.seeds[0])
  for name in marking.CONTROLS:
    make = functools.partial(marking.control, base=base, like=like)
    yield Cell(name, kind="control"), make
  for method in methods:
    lr = rates[method.loss]
    if method.name in c.second:
      first = Cell(method.name, lr, c.seeds[0])
      for seed in c.seeds:
        make = functools.partial(marking.second, base=base, first=first)
        yield Cell(method.name, lr, seed, "second"), make
    if method.name in c.collapse:
      lr = c.collapse_lr * lr
      yield Cell(method.name, lr, c.tuning_seed, "collapse"), marking.collapse
