"""Log-probs of the reference model, computed once per pair.

The reference is the model without its adapter, so its summed log-probs [C] of
a row depend on the weights at the start, the row's tokens and its video alone.
They are stored in ArrayRecord files (data.records) beside the decoded frames: a
folder per base (weights, config, dtype), in it an array per row, found by its
tokens, the content of its frames and whether features or frames were read.
Other losses, seeds, epochs and adapters read the same values. For a loss with
`ld_alpha` there are two sums of a caption, [C, 2], in a folder of their own.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from synpo_jax.data import batches, pipeline, records
from synpo_jax.data.stream import Stream
from synpo_jax.losses import modifiers
from synpo_jax.models import sharding
from synpo_jax.models.tree_digest import digest
from synpo_jax.runtime import exchange, hosts, settings
from synpo_jax.training import cache_folder, pair_logps

LAYOUT = 1  # of the stored values; a new one makes new folders
CHUNK = 256  # rows in a file: what a killed run loses at most
# Of a caption's log-prob, relative, by dtype of computation.
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2}


def make(
  model,
  params,
  cache: str | Path,
  mesh,
  scoring: pair_logps.Scoring,
  *,
  verify: int,
  ld_alpha: float | int | None = None,
) -> Callable[[pipeline.Data], pipeline.Data]:
  """Returns a function that adds ref_logps to the batches of data.

  It computes the rows that the cache lacks, all processes together, and
  recomputes `verify` rows to compare. All processes call it alike.

  Args:
    model: a Captioner; its adapter is left out.
    params: the weights `params` at the start, all of them.
    cache: folder that the first process reads and writes: data.cache.
    verify: rows to recompute.
    ld_alpha: of the loss.

  The function raises ValueError where stored and recomputed log-probs differ
  by more than TOLERANCE.
  """
  apart = ld_alpha is not None
  name = f"references-{_setting(model, params, apart)}"
  folder, remote = exchange.place(cache, name)
  score = make_scorer(model, params, mesh, scoring, apart)
  tolerance = TOLERANCE[jnp.dtype(model.dtype).name]

  def attach(data):
    keys = row_keys(data)
    width = data.batches.rows.captions * (2 if apart else 1)
    computed = _fill(folder, remote, data, keys, score, width)
    stored_Nw = _stored(folder, keys, width)
    sample = _sample(data.batches.sizes, verify)
    for rows, fresh in score(data.batches.once(sample)):
      _compare(folder, data, rows, stored_Nw[rows], fresh, tolerance)
    hosts.say(
      f"references: {len(keys) - computed} read, {computed} computed; "
      f"verified {len(sample)}"
    )
    if apart:
      parts_NC2 = stored_Nw.reshape(len(keys), -1, 2)
      stored_Nw = modifiers.joined(parts_NC2, np.float32(ld_alpha))
    return pipeline.with_references(data, stored_Nw)

  return attach


def _setting(model, params, apart: bool = False) -> str:
  """Name of all that decides what is stored of given rows."""
  config = dataclasses.asdict(model.config)
  dtype = jnp.dtype(model.dtype).name
  split = [] if model.split is None else [model.split]  # features are rounded
  kind = [*split, "apart"] if apart else split
  return settings.digest([LAYOUT, digest(params), config, dtype, *kind], 16)


def make_scorer(model, params, mesh, scoring, apart: bool = False):
  """Returns batches -> iterator of (rows [n], summed log-probs [n, C]).

  apart: each caption's in two sums, as of pair_logps.reference_parts: [n, 2C].
  """
  of = pair_logps.reference_parts if apart else pair_logps.reference_logps

  @functools.partial(jax.jit, out_shardings=sharding.replicated(mesh))
  def step(params, batch, rows):
    variables, micro = {"params": params}, batch.micro(0)
    sums = of(model, variables, micro, scoring)
    return rows, sums.reshape(len(sums), -1)

  def score(source):
    stream = Stream(source, 0) if len(source) else ()
    for index, batch in enumerate(stream):
      own = source.numbers(index)[0, source.mine].astype(np.int32)
      own = sharding.put_rows(own, mesh)  # in the mesh's order, as the batch is
      told = step(params, sharding.put_batch(batch, mesh), own)
      rows, sums = map(np.asarray, told)
      real = rows != batches.FILLER
      yield rows[real], sums[real]

  return score


def row_keys(data: pipeline.Data) -> list[str]:
  """A name for each row by all that the reference reads of it."""
  rows, keys = data.batches.rows, []
  for row, video in enumerate(rows.video.tolist()):
    key = hashlib.sha256()
    if video >= 0:
      visual = data.batches.visual_key, data.frames.digest(video)
      key.update(" ".join(visual).encode())
    first = row * rows.captions
    captions = range(first, first + rows.captions)
    for ids in (rows.prefix[row], *(rows.response[i] for i in captions)):
      key.update(f"\n{len(ids)} ".encode() + ids.astype("<i4").tobytes())
    keys.append(key.hexdigest())
  return keys


def _fill(folder, remote, data, keys, score, width) -> int:
  """Computes the rows that the folder lacks; returns how many."""
  with cache_folder.held(folder, "references"):
    if hosts.is_first():
      exchange.pull(folder, remote)
    todo = np.flatnonzero(np.isnan(_stored(folder, keys, width)).any(axis=1))
    made = score(data.batches.once(todo))
    with cache_folder.bar("references", len(todo)) as advance:

      def arrays():
        for rows, logps in made:
          advance(len(rows))
          yield from ((keys[n], x) for n, x in zip(rows, logps, strict=True))

      if hosts.is_first():
        records.write_all(folder, arrays(), CHUNK)
        exchange.push(folder, remote)
      else:
        for _ in made:  # its share of each step is all it has to do
          pass
  return len(todo)


def _stored(folder, keys, width) -> np.ndarray:
  """float32 [N, width] as the first process finds them, else NaN."""
  logps = np.full((len(keys), width), np.nan, np.float32)
  if hosts.is_first():
    entries = records.inventory(folder)
    found = [n for n, key in enumerate(keys) if key in entries]
    reader = records.Reader([entries[keys[n]] for n in found])
    for place, row in enumerate(found):
      logps[row] = reader(place)
  if jax.process_count() > 1:
    return np.asarray(multihost_utils.broadcast_one_to_all(logps))
  return logps


def _sample(sizes, count) -> np.ndarray:
  """Rows of the most common bucket, so that they compile one program."""
  kinds, which, counts = np.unique(
    sizes, axis=0, return_inverse=True, return_counts=True
  )
  rows = np.flatnonzero(which.ravel() == counts.argmax())
  return rows[cache_folder.spread(count, len(rows))]


def _compare(folder, data, rows, stored, fresh, tolerance):
  error = np.abs(stored - fresh) / np.maximum(1.0, np.abs(fresh))
  worst = np.unravel_index(np.argmax(error), error.shape)
  if not error.max() <= tolerance:
    pair = data.pairs[data.batches.rows.pair[rows[worst[0]]]]
    raise ValueError(
      f"{folder}: the reference log-prob of pair {pair.id} is "
      f"{stored[worst]:.6g}, the model computes {fresh[worst]:.6g} now "
      f"({tolerance:.2g} relative allowed); delete that folder"
    )
