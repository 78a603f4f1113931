"""A language model of two narrow layers, and pairs of text drawn for it."""

import numpy as np

from synpo_jax.data.batch import Batch

VOCABULARY = 40
SIZES = dict(
  model_type="llama",
  vocab_size=VOCABULARY,
  hidden_size=16,
  intermediate_size=24,
  num_hidden_layers=2,
  num_attention_heads=2,
)


def drawn(micro_batches: int, pairs: int, **others) -> Batch:
  """[A, B, ...] of different rows without padding; `others` are as given."""
  rng = np.random.default_rng(0)
  shape = micro_batches, pairs
  made = Batch(
    prefix=rng.integers(0, VOCABULARY, (*shape, 4), np.int32),
    prefix_mask=np.ones((*shape, 4), bool),
    response=rng.integers(0, VOCABULARY, (*shape, 2, 4), np.int32),
    response_mask=np.ones((*shape, 2, 4), bool),
    weight=np.ones(shape, np.float32),
    row=np.arange(micro_batches * pairs, dtype=np.int32).reshape(shape),
  )
  return made._replace(**others)
