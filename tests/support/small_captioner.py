"""The captioning recipe with smaller numbers and a random captioner."""

import pathlib
import shutil

import jax
import jax.numpy as jnp

from configs import caption as recipe
from synpo_jax.models import initial
from synpo_jax.models.captioner import Captioner
from synpo_jax.weights import folders
from synpo_jax.weights.config_reading import captioner_config
from tests.support import run_config

TINY = pathlib.Path("synpo_jax/assets/tiny")


def config(folder):
  """The documented config with smaller numbers and a random captioner."""
  c = recipe.get_config()
  c.model.checkpoint = str(folder / "captioner")
  c.videos, c.root = "*.mp4", str(folder)
  c.output = str(folder / "captions.jsonl")
  c.frames.update(min_frames=2, max_frames=4, frames_per_second=1.0)
  c.placing.update(batch_size=2, frame_buckets=(4,), prefix_buckets=128)
  c.captions.max_new_tokens = 12
  return c


def write_captioner(folder):
  """A small captioner with the shipped tokenizer that says all sorts."""
  arch = run_config.get_config("unused").model.arch.to_dict()
  config = captioner_config(arch)
  params = initial.params(Captioner(config, dtype=jnp.dtype("float32")), 0)
  stirred = jax.tree.map(lambda x: x * 6 if x.ndim > 1 else x, params)
  folders.save(folder, config, stirred)
  for path in TINY.glob("tokenizer*"):
    shutil.copy(path, folder)
