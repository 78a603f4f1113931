"""Captions for the prompts of data batches, where pairs are trained on."""

import jax

from synpo_jax.data import pipeline
from synpo_jax.data.batch import Batch
from synpo_jax.generation import decode
from synpo_jax.generation.decode_loop import Prompts
from synpo_jax.generation.sampling import GREEDY, Sampling
from synpo_jax.models import sharding


def write(
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
) -> list[list[str]]:
  """Captions [B][C] of one micro-batch's prompts, its fillers' included.

  names: of the rows, for their random keys. end: the token that ends a
  caption.
  """
  prompts = Prompts(
    batch.prefix, batch.prefix_mask, batch.frames, batch.features
  )
  generated = decode.generate(
    model,
    variables,
    jax.device_put(prompts, sharding.rows_sharding(mesh)),
    decode.row_keys(seed, names),
    candidates=candidates,
    max_new_tokens=max_new_tokens,
    sampling=sampling,
    eos_ids=(end,),
  )
  return [
    [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in row]
    for row in generated.tokens
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

  A video's first row counts. settings: tokenizer, end, mesh and
  max_new_tokens of `write`.
  """
  captions = {}
  for index in range(len(data.batches)):
    if len(captions) >= most:
      break
    batch = data.batches[index].micro(0)
    names = [data.pairs[row].video for row in batch.row]
    texts = write(
      model,
      variables,
      batch,
      [str(name) for name in names],
      seed=0,
      candidates=1,
      sampling=GREEDY,
      **settings,
    )
    for name, row, (text,) in zip(names, batch.row, texts, strict=True):
      if row >= 0 and len(captions) < most:
        captions.setdefault(name, text)
  return captions
