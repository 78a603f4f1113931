"""Captions for the prompts of data batches, where pairs are trained on."""

import numpy as np

from synpo_jax.data import pipeline, text
from synpo_jax.data.batch import Batch
from synpo_jax.generation import decode
from synpo_jax.generation.decode_loop import Prompts
from synpo_jax.generation.sampling import GREEDY, Sampling
from synpo_jax.models import sharding


def write(model, variables, batch: Batch, names, **settings) -> list[list[str]]:
  """Captions [B][C] of one micro-batch's prompts, its fillers' included.

  As `write_scored`, without the scores.
  """
  rows = write_scored(model, variables, batch, names, **settings)
  return [[words for words, _ in row] for row in rows]


def write_scored(
  model,
  variables,
  batch: Batch,
  names: list[str],
  *,
  tokenizer,
  end: int,
  mesh,
  seed: int,
  candidates: int,
  sampling: Sampling,
  max_new_tokens: int,
  beginning: str = "",
) -> list[list[tuple[str, float]]]:
  """(caption, S) [B][C]; S is the geometric mean of its tokens' probability.

  S is of the tokens that the model chose, the end of the caption among them,
  at temperature 1.

  Args:
    batch: this process's share of the B rows.
    names: of all B rows as they lie on the mesh, for their random keys.
    end: the token that ends a caption.
    max_new_tokens: those of `beginning` not counted.
    beginning: words that every caption is made to begin with.
  """
  prompts = Prompts(
    batch.prefix, batch.prefix_mask, batch.frames, batch.features
  )
  begun = text.response_ids(tokenizer, [beginning], end)[0][:-1]
  if begun:
    shape = (len(batch.prefix), candidates, len(begun))
    tail = np.broadcast_to(np.array(begun, np.int32), shape)
    prompts = prompts._replace(tail=tail, tail_mask=np.ones(shape, bool))
  generated = decode.generate(
    model,
    variables,
    sharding.put_rows(prompts, mesh),
    decode.row_keys(seed, names),
    candidates=candidates,
    max_new_tokens=max_new_tokens,
    sampling=sampling,
    eos_ids=(end,),
  )
  certainty = np.exp(generated.logps.sum(-1) / generated.lengths)

  def words(ids):
    ids = [*begun, *ids.tolist()]
    return tokenizer.decode(ids, skip_special_tokens=True).strip()

  return [
    [(words(ids), float(s)) for ids, s in zip(row, scores, strict=True)]
    for row, scores in zip(generated.tokens, certainty, strict=True)
  ]


def greedy(
  model,
  variables,
  data: pipeline.Data,
  *,
  most: int,
  **settings,
) -> dict[str, str]:
  """The likeliest captions {video: text} of the first `most` videos of data.

  A video's first row counts. settings: tokenizer, end, mesh, max_new_tokens
  and perhaps beginning of `write_scored`.
  """
  found = sampled(
    model,
    variables,
    data,
    most=most,
    seed=0,
    candidates=1,
    sampling=GREEDY,
    **settings,
  )
  return {video: texts[0][0] for video, texts in found.items()}


def sampled(
  model,
  variables,
  data: pipeline.Data,
  *,
  most: int,
  **settings,
) -> dict[str, list[tuple[str, float]]]:
  """{video: [(caption, S)]} of the first `most` videos of data.

  A video's first row counts. Each process writes those of its rows, and all
  get all. settings: of `write_scored`.
  """
  captions = {}
  for index in range(len(data.batches)):
    if len(captions) >= most:
      break
    batch = data.batches[index].micro(0)
    rows = sharding.whole(sharding.put_rows(batch.row, settings["mesh"]))
    names = [data.pairs[row].video for row in rows]
    texts = write_scored(
      model, variables, batch, [str(name) for name in names], **settings
    )
    for name, row, candidates in zip(names, rows, texts, strict=True):
      if row >= 0 and len(captions) < most:
        captions.setdefault(name, candidates)
  return captions
