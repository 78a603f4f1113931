"""The train step for NVIDIA GPUs, as far as JAX takes it without one."""

import jax
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from synpo_jax.models import attention
from synpo_jax.planning import abstract_step
from tests.support import run_config

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["xla", "cudnn"])
def test_the_step_lowers_for_cuda(monkeypatch, name):
  cudnn = fused_attention_stablehlo  # which asks a library that is not here
  monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
  monkeypatch.setattr(attention, "native_to", lambda platform: "cudnn")
  c = run_config.get_config("none")
  c.model.update(attention=name, dtype="bfloat16")
  step = abstract_step.build(c, jax.devices()[:1], response=32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  traced = step.function.trace(step.state, step.frozen, step.batch, key)
  text = traced.lower(lowering_platforms=("cuda",)).as_text()
  kernels = text.count("custom_call @__cudnn$fmha")
  assert (kernels >= 4) == (name == "cudnn")  # two calls, forward and back
  assert ("__cudnn$fmhaSoftmax" in text) == (name == "cudnn")  # has no mask
  if name == "cudnn":
    length = step.shape.prefix + 2 * step.shape.response
    assert f"x{length}x{length}x" not in text
