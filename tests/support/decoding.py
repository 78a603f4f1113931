"""A small model, its prompts, and a call of `generate`."""

import numpy as np

from synpo_jax.generation import decode
from synpo_jax.generation.decode_loop import Prompts
from synpo_jax.generation.sampling import GREEDY

V, EOS = 64, 2


def prompts(lengths, width, seed=0):
  """Random prompts of these lengths, left-padded to `width` with rubbish."""
  rng = np.random.default_rng(seed)
  ids = rng.integers(3, V, (len(lengths), max(lengths)))
  mask = np.arange(width)[None] >= width - np.array(lengths)[:, None]
  prefix = rng.integers(3, V, (len(lengths), width))
  for row, length in enumerate(lengths):
    prefix[row, width - length :] = ids[row, :length]
  return Prompts(prefix.astype(np.int32), mask)


def run(model, variables, batch, keys, **kwargs):
  settings = dict(
    candidates=1, max_new_tokens=7, sampling=GREEDY, eos_ids=(EOS,)
  )
  return decode.generate(
    model, variables, batch, keys, **{**settings, **kwargs}
  )
