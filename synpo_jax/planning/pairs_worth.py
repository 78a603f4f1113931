"""What the pairs of a run are worth to its model, before it trains on them."""

import json
import pathlib
import tempfile

import jax
import numpy as np

from synpo_jax.data import files, pairs, text, video
from synpo_jax.pairing import worth
from synpo_jax.planning import inputs
from synpo_jax.training import job, pair_logps, reference_cache
from synpo_jax.weights import loading


def look(c, most: int) -> dict:
  """The report (worth.look) on all pairs that a training config would use.

  Lengths are in tokens of its tokenizer. most: pairs, evenly spread, that the
  model ranks as it is before training; 0 loads no model. Their videos are
  decoded, into nothing that stays.

  Raises:
    ValueError, OSError: one line, for pairs, a model or videos that cannot be
      read, and for ranking on several processes.
  """
  read = pairs.read_pairs(
    c.data.pairs,
    question=c.data.question,
    captions=2,
    min_score_gap=c.data.min_score_gap,
  )
  tokenizer = text.load_tokenizer(c.model.tokenizer or c.model.checkpoint)

  def count(caption):
    return len(tokenizer(caption, add_special_tokens=False)["input_ids"])

  ranking = rank(c, read, most) if most else None
  return worth.look(read.pairs, count, "tokens", ranking)


def rank(c, read: pairs.Filtered, most: int) -> dict:
  """How the model before training ranks some of these pairs (worth.rank)."""
  if jax.process_count() > 1:
    raise ValueError("--worth ranks on one process; give --worth=0 on several")
  if inputs.is_made(c, c.data.videos):
    raise ValueError(
      f"--worth: {c.data.videos}: {inputs.MADE}; give --worth=0, or start the "
      "run once"
    )
  spread = video.spread(0, len(read.pairs) - 1, min(most, len(read.pairs)))
  wanted = {read.places[read.pairs[n].id] for n in spread.tolist()}
  opened = job.open_model(c)
  with tempfile.TemporaryDirectory() as temp:
    few = pathlib.Path(temp, "rows.jsonl")
    held = (json.dumps(row) for row in _held(c.data.pairs, wanted))
    few.write_text("".join(f"{line}\n" for line in held))
    data = job.read_once(
      c,
      opened,
      captions=2,
      pairs=str(few),
      videos=c.data.videos,
      cache=f"{temp}/cache",
      workers=0,
    )
    return worth.rank(*_scored(c, opened, data))


def _held(path, wanted: set[files.Place]):
  """The rows at these places, as the files hold them."""
  for file in files.find(path):
    for place, row in files.stream(file):
      if place in wanted:
        yield row


def _scored(c, opened, data):
  """Summed log-probs float32 [N, 2] and tokens [N, 2] of all captions."""
  mesh, model, _ = opened
  variables = loading.load_variables(model, c.model.checkpoint, mesh, c.seed)
  scoring = pair_logps.make_scoring(**c.step, mesh=mesh)
  score = reference_cache.make_scorer(model, variables["params"], mesh, scoring)
  held = data.batches.rows
  every = np.arange(len(held.pair))
  sums = np.zeros((len(every), 2), np.float32)
  for rows, logps in score(data.batches.once(every)):
    sums[rows] = logps
  lengths = held.response.lengths().reshape(-1, 2)
  return sums, lengths.astype(np.float32)
