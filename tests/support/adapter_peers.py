"""Adapters learning in torch and here: what a loss says of a and b."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import torch

from synpo_jax.models import initial
from synpo_jax.training import pair_logps
from synpo_jax.weights import tensor_names

WEIGHTS = (1.0, -0.5)  # of the captions' log-probs in the loss


def drawn(module):
  """An adapter that does something, at random."""
  keys = iter(range(100))
  return jax.tree.map(
    lambda x: 0.1 * jax.random.normal(jax.random.key(next(keys)), x.shape),
    initial.adapter(module, 0),
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def our_gradients(module, layout, params, lora, batch):
  """(loss, gradients of the adapter and of the projector)."""
  scoring = pair_logps.Scoring(layout, 4, None, None)

  def loss(lora, projector):
    variables = {"params": params | dict(projector=projector), "lora": lora}
    logps = pair_logps.pair_logps(module, variables, batch, scoring)
    sums_BC = jnp.sum(logps, axis=-1, where=batch.response_mask)
    return jnp.sum(sums_BC * jnp.asarray(WEIGHTS)[None])

  both = jax.value_and_grad(loss, argnums=(0, 1))
  return both(lora, params["projector"])


def adapted(model, captioner, lora, scale):
  """{path in our tree: [(torch's weight, a, b) of each layer]}, W + s a b."""
  weights, found = dict(model.named_parameters()), {}
  for leaf in tensor_names.leaves(captioner.config):
    pair = lora
    for name in leaf.path.removesuffix("/kernel").split("/"):
      pair = pair.get(name, {}) if isinstance(pair, dict) else {}
    if not (leaf.path.endswith("/kernel") and "a" in pair):
      continue
    found[leaf.path] = []
    if not leaf.stacked:
      pair = {key: matrix[None] for key, matrix in pair.items()}
    stems = leaf.stems[-len(pair["a"]) :]  # in a tower the last ones
    for stem, a, b in zip(stems, pair["a"], pair["b"], strict=True):
      a, b = torch.tensor(np.asarray(a)), torch.tensor(np.asarray(b))
      module = tensor_names.module(stem, captioner.config)
      weight = weights[f"{module}.weight"]
      weight.data += scale * (a @ b).T
      found[leaf.path].append((weight, a, b))
  return found


def near(ours, theirs):
  limit = 1e-4 * theirs.abs().max().item()
  np.testing.assert_allclose(np.asarray(ours), theirs.numpy(), atol=limit)


def same_gradients(grads, pairs, scale):
  """Of what `adapted` found, whose torch weights have gradients."""
  for path, layers in pairs.items():
    ours = grads
    for key in path.removesuffix("/kernel").split("/"):
      ours = ours[key]
    if ours["a"].ndim == 2:
      ours = {key: matrix[None] for key, matrix in ours.items()}
    for at, (weight, a, b) in enumerate(layers):
      slope = weight.grad.T * scale
      near(ours["a"][at], slope @ b.T)
      near(ours["b"][at], a.T @ slope)
