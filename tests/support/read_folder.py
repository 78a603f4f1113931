"""A published folder as callers read it: its config, then its weights."""

import jax.numpy as jnp

from synpo_jax.weights import folders
from synpo_jax.weights.config_reading import captioner_config


def read_folder(folder):
  """(config, float32 params)."""
  config = captioner_config(folder)
  return config, folders.load(folder, config, dtype=jnp.float32)
