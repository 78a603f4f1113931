"""Which attention back end computes, and what the log says of it."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synpo_jax.models import attention, sharding
from synpo_jax.models.attention import Backend
from synpo_jax.weights import loading
from synpo_jax.weights.config_reading import captioner_config
from tests.support import run_config
from tests.support.small_gemma import CONFIG


def config_of(**changes):
  return dataclasses.replace(
    CONFIG.decoder, **dict(attn_softcap=None, head_dim=64) | changes
  )


@pytest.mark.parametrize(
  "name,platform,sizes,dtype,chosen",
  [
    ("auto", "tpu", config_of(), "bfloat16", "splash"),
    ("auto", "tpu", config_of(attn_softcap=5.0), "float32", "splash"),
    ("auto", "gpu", config_of(), "bfloat16", "cudnn"),
    ("auto", "cuda", config_of(), "float16", "cudnn"),
    ("auto", "gpu", config_of(attn_softcap=5.0), "bfloat16", "xla"),
    ("auto", "gpu", config_of(), "float32", "xla"),
    ("auto", "gpu", config_of(head_dim=256), "bfloat16", "xla"),
    ("auto", "cpu", config_of(), "float32", "xla"),
    ("auto", "tpu", config_of(mrope_sections=(8, 8, 16)), "bfloat16", "xla"),
    ("xla", "tpu", config_of(), "bfloat16", "xla"),
    ("splash", "tpu", config_of(), "bfloat16", "splash"),
    ("cudnn", "gpu", config_of(), "bfloat16", "cudnn"),
  ],
)
def test_choose(name, platform, sizes, dtype, chosen):
  assert attention.choose(name, platform, sizes, jnp.dtype(dtype)) == chosen


def test_the_log_says_why_a_gpu_computes_with_xla():
  gpu = SimpleNamespace(platform="gpu")
  mesh = SimpleNamespace(devices=np.array([gpu]))
  say = partial(attention.describe, Backend("xla", mesh))
  capped = say(config_of(attn_softcap=5.0), jnp.bfloat16)
  assert capped == "xla (cudnn has no softcap on scores)"
  chosen = Backend("cudnn", mesh)
  assert attention.describe(chosen, config_of(), jnp.bfloat16) == "cudnn"


@pytest.mark.parametrize(
  "name,platform,changes,said",
  [
    ("flash", "tpu", {}, "model.attention=flash: choose one of auto, splash"),
    ("splash", "cpu", {}, "splash does not run on cpu: choose auto or xla"),
    ("cudnn", "tpu", {}, "cudnn does not run on tpu"),
    ("cudnn", "gpu", dict(attn_softcap=5.0), "cudnn has no softcap"),
  ],
)
def test_what_cannot_be_chosen(name, platform, changes, said):
  with pytest.raises(ValueError, match=said):
    sizes = config_of(**changes)
    attention.choose(name, platform, sizes, jnp.bfloat16)


def test_a_tower_in_float16_is_refused_on_cpus_by_name():
  mesh = sharding.make_mesh(
    data=1, fsdp=1, model=1, devices=jax.devices("cpu")[:1]
  )
  arch = run_config.get_config("unused").model.arch.to_dict()
  sizes = captioner_config(arch)
  with pytest.raises(ValueError, match="model.dtype=float16: .* on CPUs; set"):
    loading.on_mesh(sizes, mesh, jnp.float16, "auto")
  loading.on_mesh(sizes, mesh, jnp.bfloat16, "auto")
  alone = dataclasses.replace(sizes, tower=None)
  loading.on_mesh(alone, mesh, jnp.float16, "auto")
