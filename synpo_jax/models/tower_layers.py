"""What the layers of towers are made of, and the adapters on them."""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from synpo_jax.models import lora as lora_math
from synpo_jax.models.norms import rms_norm
from synpo_jax.models.remat import policy

ACTIVATIONS = {
  "silu": jax.nn.silu,
  "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
}


def linear(weights: Mapping, x: Float[Array, "*N i"]) -> Float[Array, "*N o"]:
  """`x @ kernel + bias` in the dtype of `x`; the bias may be absent.

  Where `lora.attach` put an adapter beside them, with what that adds.
  """
  y = x @ weights["kernel"].astype(x.dtype)
  y = y + on_rows(weights["bias"], y) if "bias" in weights else y
  return y + weights["adapter"](x) if "adapter" in weights else y


def layer_norm(
  weights: Mapping, x: Float[Array, "*N D"], eps: float
) -> Float[Array, "*N D"]:
  """Layer normalisation in float32, returned in the dtype of `x`."""
  wide = x.astype(jnp.float32)
  wide -= jnp.mean(wide, axis=-1, keepdims=True)
  wide *= jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + eps)
  wide = wide * on_rows(weights["scale"], wide) + on_rows(weights["bias"], wide)
  return wide.astype(x.dtype)


def norm(weights, x, eps) -> Float[Array, "*N D"]:
  """Layer norm where there is a bias, else one by root mean square."""
  if "bias" in weights:
    return layer_norm(weights, x, eps)
  return rms_norm(weights["scale"], x, eps).astype(x.dtype)


def mlp(weights, x, activation) -> Float[Array, "*N D"]:
  """down(act(up(x))), or with a gate in the activation."""
  act = ACTIVATIONS[activation]
  up = checkpoint_name(linear(weights["up"], x), "up")
  if "gate" not in weights:
    return linear(weights["down"], act(up))
  x = act(checkpoint_name(linear(weights["gate"], x), "gate")) * up
  return linear(weights["down"], x)


def on_rows(vector: Float[Array, "D"], x: Float[Array, "*N D"]):
  """`vector` with the rank and dtype of `x`, to meet its last axis."""
  return jnp.expand_dims(vector.astype(x.dtype), range(x.ndim - 1))


def draw_norm(shape: tuple[int, ...], biased: bool = True) -> dict:
  """Scales of one, and biases of zero."""
  weights = {"scale": jnp.ones(shape)}
  return weights | ({"bias": jnp.zeros(shape)} if biased else {})


def draw_linear(key: jax.Array, shape: tuple[int, ...], biased: bool = True):
  """Kernel of variance 1 / inputs, and a zero bias; 3 axes: a layer stack."""
  stack = shape[:1] if len(shape) == 3 else ()
  inputs = math.prod(shape[len(stack) : -1])
  weights = {"kernel": jax.random.normal(key, shape) * inputs**-0.5}
  if biased:
    weights["bias"] = jnp.zeros((*stack, shape[-1]))
  return weights


def rematerialised(body: Callable, remat: str) -> Callable:
  """A layer for `lax.scan` that saves what the policy names, or all: none."""
  if remat == "none":
    return body
  return jax.checkpoint(body, prevent_cse=False, policy=policy(remat))


def declare_adapters(tower):
  """The `lora` tree of a tower module's layers, None where it has no adapter.

  tower: with `weights`, `lora` and `split`.
  """
  if tower.lora is None:
    return None

  def draw():
    key = tower.make_rng("params")
    layers = tower.weights["layers"]
    return lora_math.on_layers(layers, tower.split, tower.lora.rank, key)

  return tower.variable("lora", "layers", draw).value


def applied_adapters(tower, deterministic: bool):
  """What `declare_adapters` gave, as Adapters with keys for dropout."""
  if tower.adapters is None:
    return None
  draws = lora_math.drops(tower.lora) and not deterministic
  key = tower.make_rng("dropout") if draws else None
  return lora_math.of_layers(tower.adapters, tower.lora, key)
