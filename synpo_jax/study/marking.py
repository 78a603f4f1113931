"""What makes a row of the study, for each kind of cell."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from flax import serialization

from synpo_jax import losses
from synpo_jax.runtime import journal, seal
from synpo_jax.study import (
  candidates,
  cell,
  controls,
  curves,
  grid,
  looks,
  material,
)
from synpo_jax.study.grid import Cell
from synpo_jax.world import scores

SAMPLED = 8  # captions of a clip, of which controls choose
CONTROLS = (
  "forced beginning",
  "constant sentence",
  "equal length",
  f"best of {SAMPLED} by S",
)


class Site(NamedTuple):
  """What the cells of a regime share.

  c: the config, with the regime's own sections in place. pairs: those to train
  on. bench: (captioner, method, data) -> cell.Bench, compiled once.
  """

  c: object
  folder: pathlib.Path
  captioner: material.Captioner
  ground: material.Ground
  pairs: pathlib.Path
  validation: looks.Held
  test: looks.Held
  lens: looks.Lens
  bench: Callable


def kept(captioner, path: pathlib.Path, make: Callable) -> dict:
  """An adapter out of a file, which is made where it is not there.

  Raises seal.Broken (a ValueError) for a file that is not as it was written.
  """
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    content = serialization.to_bytes(jax.device_get(make()))
    journal.replace(path, seal.put_bytes(content))
  blank = cell.fresh_adapter(captioner, 0)
  try:
    content = seal.take_bytes(path.read_bytes())
  except seal.Broken as error:
    raise seal.Broken(f"{path}: {error}; delete it and run again") from error
  found = serialization.from_bytes(blank, content)
  return jax.tree.map(
    lambda new, old: jax.device_put(new, old.sharding), found, blank
  )


def base(site: Site, one: Cell) -> dict:
  """The policy before training, on the clips of both splits."""
  start = cell.fresh_adapter(site.captioner, 0)
  row = _tested(site, one, start)
  tried = _validated(site, start)
  return row | {f"validation_{key}": value for key, value in tried.items()}


def rate(site: Site, one: Cell) -> dict:
  """What validation clips say of a learning rate."""
  trained = _train(site, one)
  curve = _last(trained.rows)
  del curve["pairs_per_s"]  # a cell repeats to the last digit
  return _validated(site, trained.adapter) | {"curve": curve}


def scored(site: Site, one: Cell, *, base: dict) -> dict:
  """A cell's scores on test clips, and what its training looked like."""
  watch = [_gradients(site, one)]
  if one.seed == site.c.seeds[0]:
    every = site.c.look.captions
    watch.append(
      looks.at_captions(site.lens, site.captioner, site.validation, every)
    )
  trained = _train(site, one, looks.both(*watch))
  folder = _folder(site, one)
  kept(site.captioner, folder / "adapter.msgpack", lambda: trained.adapter)
  row = _tested(site, one, trained.adapter, base)
  row |= _means(trained.seen) | {
    "coefficients": _method(site, one).coefficients,
    "updates": len(trained.rows),
    "skipped": int(trained.rows[-1]["skipped"]),
    "half_gain_step": looks.steps_to_half(trained.seen, base["validation_f1"]),
    "seen": trained.seen,
  }
  curves.write(folder, _method(site, one).loss, trained, base, row)
  return row


def control(site: Site, one: Cell, *, base: dict, like: Cell) -> dict:
  """The policy before training, nudged; like: the cell whose words count."""
  texts = _controls(site, like)[one.method]
  return _compared(looks.marked(site.test, texts), base)


def second(site: Site, one: Cell, *, base: dict, first: Cell) -> dict:
  """Trained again, on pairs of what the captioner of `first` writes.

  What it learned is put on the weights, which are the new reference; a fresh
  adapter learns.
  """
  c, folder = site.c, site.folder / f"second {one.method}"
  folder.mkdir(exist_ok=True)
  captioner = cell.merged(site.captioner, _adapter(site, _folder(site, first)))
  pairs = candidates.make_pairs(
    c, captioner, site.ground, folder, ("second",), c.pairs
  )
  later = site._replace(captioner=captioner, pairs=pairs["second"])
  trained = _train(later, one, _gradients(later, one))
  row = _tested(later, one, trained.adapter, base) | _means(trained.seen)
  return row | {"updates": len(trained.rows)}


def collapse(site: Site, one: Cell) -> dict:
  """Trained past all measure; `seen` says what became of it."""
  every = site.c.look.gradients
  watch = looks.both(
    _gradients(site, one),
    looks.at_captions(site.lens, site.captioner, site.validation, every),
  )
  trained = _train(site, one, watch, epochs=site.c.collapse_epochs)
  return _last(trained.seen) | {"seen": trained.seen}


def _method(site, one):
  return grid.parse(one.method, site.c.losses.to_dict())


def _folder(site, one) -> pathlib.Path:
  return site.folder / "cells" / curves.name(one)


def _adapter(site, folder) -> dict:
  return kept(site.captioner, folder / "adapter.msgpack", _not_there)


def _not_there():
  raise ValueError("an adapter of this study is gone; remove its cells.jsonl")


def _gradients(site, one):
  every = site.c.look.gradients
  return looks.at_gradients(
    site.lens, site.captioner, _method(site, one), every
  )


def _train(site, one, watch=cell.see_nothing, epochs=1) -> cell.Trained:
  method = _method(site, one)
  data = material.read_data(
    site.c,
    site.captioner,
    site.ground,
    site.pairs,
    captions=losses.make(method.loss, method.coefficients).captions,
    epochs=epochs,
    seed=one.seed,
  )
  bench = site.bench(site.captioner, method, data)
  return cell.train(site.captioner, bench, data, one.lr, one.seed, watch)


def _validated(site, adapter) -> dict:
  texts = looks.captions(site.lens, site.captioner, adapter, site.validation)
  _, found = looks.marked(site.validation, texts)
  return {key: found[key] for key in ("f1", "f1_se")}


def _tested(site, one, adapter, base=None) -> dict:
  """Scores of captions and log-probs of test clips, and what changed."""
  lens, captioner = site.lens, site.captioner
  texts = looks.captions(lens, captioner, adapter, site.test)
  marked = looks.marked(site.test, texts)
  journal.rewrite(_folder(site, one) / "clips.jsonl", marked[0].values())
  row = _compared(marked, base)
  row |= looks.likelihoods(lens, captioner, adapter, site.test)
  return row | {
    f"{key}_drift": row[key] - (base or row)[key]
    for key in ("chosen_logp", "rejected_logp", "language_logp")
  }


def _compared(marked, base) -> dict:
  """Scores, and the mean of what changed clip by clip since the base."""
  rows, found = marked
  by_clip = {
    name: {key: row[key] for key in scores.KEYS} for name, row in rows.items()
  }
  were = base["by_clip"] if base else by_clip
  gains = scores.differences(were, by_clip)
  found |= {f"{key}_gain": gains[key] for key in scores.KEYS}
  found |= {f"{key}_gain_se": gains[f"{key}_se"] for key in scores.KEYS}
  return found | {"by_clip": by_clip}


def _means(seen: list[dict]) -> dict:
  """Means over training of what was seen of gradients."""
  keys = ("chosen_reward_grad_norm", "rejected_reward_grad_norm", "bell")
  columns = {
    key: [row[key] for row in seen if row.get(key) is not None] for key in keys
  }
  return {k: float(np.mean(v)) if v else None for k, v in columns.items()}


def _last(rows: list[dict]) -> dict:
  return {k: v for k, v in rows[-1].items() if k != "step"}


def _controls(site, like: Cell) -> dict[str, dict[str, str]]:
  """Control -> captions of the test clips, kept in controls.jsonl."""
  path = site.folder / "controls.jsonl"
  if not path.exists():
    before, after = (_texts(site, of) for of in (grid.BASE, like))
    made = controls.write(
      site.captioner.model.clone(lora=None),
      {"params": site.captioner.params},
      site.test.references,
      before,
      after,
      candidates=SAMPLED,
      mesh=site.captioner.mesh,
      max_new_tokens=site.lens.new_tokens,
      **site.captioner.texts._asdict(),
    )
    rows = [{"id": name, "captions": texts} for name, texts in made.items()]
    journal.rewrite(path, rows)
  return {
    name: {material.video_id(v): t for v, t in row["captions"].items()}
    for name, row in journal.read(path).items()
  }


def _texts(site, one: Cell) -> dict[str, str]:
  """{video as the rows have it: caption} of a cell that was tested."""
  rows = journal.read(_folder(site, one) / "clips.jsonl")
  videos = [pair.video for pair in site.test.references.pairs]
  return {v: rows[material.video_id(v)]["caption"] for v in videos}
