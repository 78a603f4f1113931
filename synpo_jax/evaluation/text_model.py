"""A language model that reads and writes text, on a mesh, in batches.

Any text LM that `weights.folders` loads, or the language half of a captioner.
"""

import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from absl import logging

from synpo_jax.data import text, tokenizer_folder
from synpo_jax.data.chat_templates import Tokenizer
from synpo_jax.data.text import eos_ids
from synpo_jax.evaluation import text_scores
from synpo_jax.generation import decode, prompt_batches
from synpo_jax.generation.decode_loop import Prompts
from synpo_jax.generation.sampling import Sampling
from synpo_jax.models import sharding
from synpo_jax.models.captioner import Captioner
from synpo_jax.runtime import buckets
from synpo_jax.weights import loading
from synpo_jax.weights.config_reading import captioner_config


class TextModel(NamedTuple):
  """A loaded model and what it takes to use it; see `load`."""

  model: Captioner
  variables: dict
  tokenizer: Tokenizer
  mesh: object
  scorer: Callable
  eos_ids: tuple[int, ...]  # any of them ends a generation
  batch_size: int  # rows of every batch; the mesh's data axes divide it


def load(
  folder: str | pathlib.Path,
  *,
  dtype: str,
  batch_size: int,
  mesh: dict[str, int],
  attention: str,
  head_chunk: int,
) -> TextModel:
  """Loads a published folder with its tokenizer and places it on a mesh.

  dtype: of weights and computation. mesh: sizes of data, fsdp and model.
  attention: "auto", or a back end of `models.attention`. head_chunk: positions
  of a row whose logits exist at once while scoring.
  """
  folder = buckets.at(folder)
  tokenizer, config = text.load_tokenizer(folder), captioner_config(folder)
  tokenizer_folder.check_vocabulary(tokenizer, {}, config.decoder.vocab)
  places = sharding.make_mesh(**mesh)
  model = loading.on_mesh(
    config, places, loading.choose_dtype(dtype), attention
  )
  return TextModel(
    model,
    {"params": loading.load_params(model, folder, places)},
    tokenizer,
    places,
    text_scores.make_scorer(model, places, head_chunk=head_chunk),
    _ends(folder, tokenizer),
    text_scores.whole_batch(places, batch_size),
  )


def _ends(folder: pathlib.Path, tokenizer) -> tuple[int, ...]:
  """What ends a generation: the folder's tokens, and the chat template's."""
  ids = eos_ids(folder, tokenizer)
  if not tokenizer.chat_template:
    return ids
  try:
    return tuple(dict.fromkeys((*ids, text.end_id(tokenizer, "tokenizer"))))
  except ValueError as error:  # no task may ask for the template
    logging.warning("%s", error)
    return ids


def score(
  lm: TextModel, rows: list[text_scores.Row], on_batch: Callable[[int], None]
) -> list[text_scores.Score]:
  """Log-prob of the last tokens of each row; `on_batch` gets rows done."""
  return text_scores.score_rows(
    lm.scorer,
    lm.variables,
    lm.mesh,
    rows,
    batch_size=lm.batch_size,
    on_batch=on_batch,
  )


def generate(
  lm: TextModel,
  prompts: dict[str, list[int]],
  *,
  max_new_tokens: int,
  sampling: Sampling,
  seed: int,
) -> Iterator[dict[str, str]]:
  """Continuations of prompts by name, a batch at a time, long ones first.

  A continuation depends on the seed and the prompt's name, not on its batch.
  Special tokens are left out of the texts.
  """
  order = sorted(prompts, key=lambda name: -len(prompts[name]))
  for start in range(0, len(order), lm.batch_size):
    names = order[start : start + lm.batch_size]
    filled = names + names[-1:] * (lm.batch_size - len(names))
    rows = [prompts[name] for name in filled]
    P = text_scores.bucket(max(map(len, rows)))
    prefix, mask = prompt_batches.left_padded(rows, P)
    placed = text_scores.put(dict(prefix=prefix, prefix_mask=mask), lm.mesh)
    out = decode.generate(
      lm.model,
      lm.variables,
      Prompts(**placed),
      decode.row_keys(seed, filled),
      candidates=1,
      max_new_tokens=max_new_tokens,
      sampling=sampling,
      eos_ids=lm.eos_ids,
    )
    yield {
      name: lm.tokenizer.decode(
        out.tokens[n, 0, : out.lengths[n, 0]], skip_special_tokens=True
      )
      for n, name in enumerate(names)
    }
