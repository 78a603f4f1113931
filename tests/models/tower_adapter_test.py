"""Adapters on a tower whose tokens merge: gradients, split, dropout."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from synpo_jax.models import captioner, lora, vit
from synpo_jax.models.config import LoraConfig
from synpo_jax.models.tower_config import token_counts
from synpo_jax.weights.config_reading import captioner_config
from tests.support.paths import GOLDEN

ON = LoraConfig(3, 6.0, 0.0, ("tower",))


@pytest.fixture(scope="module")
def case():
  """A tower of CLIP's kind that keeps few tokens, its weights and pixels."""
  file = np.load(GOLDEN / "tower_b.npz")
  config = captioner_config(
    {
      "llm": {"model_type": "llama"},
      "visual_encoder": json.loads(str(file["config"])),
      "projector": json.loads(str(file["projector_config"])),
    }
  ).tower
  config = dataclasses.replace(config, kept_ratio=0.1)
  pixels = jnp.asarray(np.moveaxis(np.float32(file["pixel_values/0"]), 1, 3))
  config = dataclasses.replace(config, image_size=pixels.shape[1])
  plain = vit.Tower(config, bodies=1)
  params = plain.init(jax.random.key(0), pixels)["params"]
  return (
    config,
    params,
    pixels,
    jax.jit(plain.apply)({"params": params}, pixels),
  )


def merged(x, keys, sizes, merges):
  """Tokens of one frame after a merge, by loops; and their sizes."""
  metric = keys.mean(axis=1)
  metric = metric / np.linalg.norm(metric, axis=-1, keepdims=True)
  even, odd = range(0, len(metric), 2), range(1, len(metric), 2)
  best = {e: max(odd, key=lambda o: metric[e] @ metric[o]) for e in even}
  score = {e: metric[e] @ metric[best[e]] for e in even if e > 0}
  leaving = sorted(score, key=score.get, reverse=True)[:merges]
  order = [e for e in even if e not in leaving] + list(odd)
  share = np.zeros((len(order), len(metric)), np.float32)
  for token, size in enumerate(sizes):
    to = best[token] if token in leaving else token
    share[order.index(to), token] = size
  share, total = share / share.sum(1, keepdims=True), share.sum(1)
  return torch.tensor(share) @ x, total


def their_features(config, weights, adapters, x):
  """The layers in torch, tokens [I, T, D] in, features out."""
  counts = token_counts(config)
  sizes = [np.ones(counts[0], np.float32) for _ in x]

  def linear(part, name, layer, h):
    w, own = weights[part][name], adapters[part][name]
    y = h @ w["kernel"][layer] + w["bias"][layer]
    return y + 2.0 * (h @ own["a"][layer]) @ own["b"][layer]  # alpha / rank

  def norm(name, layer, h):
    w = weights[name]
    own = w["scale"][layer], w["bias"][layer]
    return torch.nn.functional.layer_norm(
      h, h.shape[-1:], *own, config.norm_eps
    )

  for layer in range(config.tap):
    h = norm("attn_norm", layer, x)
    heads = [
      linear("attn", n, layer, h).unflatten(-1, (config.heads, -1))
      for n in "qkv"
    ]
    q, k, v = (part.transpose(1, 2) for part in heads)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    x = x + linear("attn", "o", layer, out.transpose(1, 2).flatten(2))
    merges = counts[layer] - counts[layer + 1]
    keys = heads[1].detach().numpy()
    pairs = [merged(*row, merges) for row in zip(x, keys, sizes, strict=True)]
    x, sizes = torch.stack([p[0] for p in pairs]), [p[1] for p in pairs]
    h = linear("mlp", "up", layer, norm("mlp_norm", layer, x))
    h = (
      torch.nn.functional.gelu(h)
      if config.activation == "gelu"
      else (h * torch.sigmoid(1.702 * h))
    )
    x = x + linear("mlp", "down", layer, h)
  return x[:, 1:]


def test_gradients_through_merges_are_those_of_torch(case):
  config, params, pixels, plain = case
  tower = vit.Tower(config, lora=ON, remat="save_dots", bodies=1)
  fresh = lora.on_layers(params["layers"], 0, 3, jax.random.key(1))
  rng = np.random.default_rng(0)
  tree = jax.tree.map(lambda x: 0.2 * rng.normal(size=x.shape), fresh)
  tree = jax.tree.map(np.float32, tree)
  weight = rng.normal(size=plain.shape).astype(np.float32)
  begun = vit.Tower(config).apply({"params": params}, pixels, method="begin")

  @jax.jit
  @jax.value_and_grad
  def ours(tree):
    variables = {"params": params, "lora": {"layers": tree}}
    return jnp.sum(weight * tower.apply(variables, begun, method="finish"))

  loss, grads = ours(tree)
  leaves = jax.tree.map(lambda x: torch.tensor(x, requires_grad=True), tree)
  frozen = jax.tree.map(lambda x: torch.tensor(np.asarray(x)), params["layers"])
  theirs = their_features(
    config, frozen, leaves, torch.tensor(np.asarray(begun))
  )
  assert np.abs(plain - theirs.detach().numpy()).max() > 0.1  # they do a lot
  total = (torch.tensor(weight) * theirs).sum()
  total.backward()
  np.testing.assert_allclose(loss, total.item(), rtol=1e-4)
  for ours_, leaf in zip(
    jax.tree.leaves(grads), jax.tree.leaves(leaves), strict=True
  ):
    assert np.isfinite(ours_).all() and leaf.grad.abs().max() > 0
    limit = 1e-4 * leaf.grad.abs().max().item()
    np.testing.assert_allclose(ours_, leaf.grad.numpy(), atol=limit)


def test_a_split_tower_is_the_whole_one(case):
  """Tokens that have merged take their sizes along, which bfloat16 holds."""
  config, params, pixels, plain = case
  halves = vit.Tower(config, split=1, bodies=1)

  @jax.jit
  def both(params):
    begun = halves.apply({"params": params}, pixels, method="begin")
    sizes = begun[..., config.width :]
    begun = begun.at[..., config.width :].set(
      sizes.astype(jnp.bfloat16).astype(jnp.float32)
    )
    return sizes, halves.apply({"params": params}, begun, method="finish")

  sizes, features = both(params)
  assert sizes.shape[-1] == 2
  tokens = sizes @ np.float32([256, 1])
  np.testing.assert_array_equal(tokens.sum(axis=1), token_counts(config)[0])
  assert tokens.max() > 1
  np.testing.assert_allclose(features, plain, atol=1e-5)
  with pytest.raises(ValueError, match="3 tokens enter layer 1 of the tower"):
    halves.apply({"params": params}, plain[:, :3], method="finish")


def test_dropout_is_drawn_for_each_layer_of_a_tower(case):
  config, params, *_ = case
  tree = lora.on_layers(params["layers"], 1, 3, jax.random.key(1))
  keyed = lora.of_layers(tree, ON, jax.random.key(0))
  keys = [
    jax.random.key_data(one.key) for one in (keyed["attn"][n] for n in "qk")
  ]
  assert len(np.unique(np.concatenate(keys), axis=0)) == 2 * (config.tap - 1)
  on = dataclasses.replace(ON, dropout=0.5)
  tower = vit.Tower(config, lora=on, split=1, bodies=1)
  count = token_counts(config)[1]
  begun = jax.random.normal(jax.random.key(2), (2, count, config.width))
  tree = jax.tree.map(lambda x: x + 0.3, tree)

  @jax.jit
  def run(key):
    variables = {"params": params, "lora": {"layers": tree}}
    return tower.apply(
      variables, begun, False, rngs={"dropout": key}, method="finish"
    )

  one, other, again = (np.asarray(run(jax.random.key(n))) for n in (0, 1, 0))
  np.testing.assert_array_equal(one, again)
  assert (one != other).mean() > 0.9


SMALL = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=3)
TEXT = dict(SMALL, model_type="llama", vocab_size=11, num_attention_heads=1)
CLIP = dict(SMALL, model_type="clip_vision_model", num_attention_heads=1)
SEES = captioner_config(
  dict(model_type="llava", text_config=TEXT, vision_config=CLIP)
)


@pytest.mark.parametrize(
  "sizes, where, layers, said",
  [
    (SEES, ("eyes",), None, r"name one or more of decoder, projector, tower"),
    (SEES, (), None, "name one or more"),
    (SEES, ("decoder",), 2, r"lora.tower_layers=2, but lora.where=.*no tower"),
    (SEES, ("tower",), 3, "2 layers of the tower run; give 1 to 2, or None"),
    (SEES, ("tower",), 0, "lora.tower_layers=0: 2 layers"),
    (captioner_config(TEXT), ("tower",), None, "a language model has no tower"),
  ],
)
def test_adapters_on_what_is_not_there_are_refused(sizes, where, layers, said):
  with pytest.raises(ValueError, match=said) as found:
    captioner.make(sizes, LoraConfig(2, 2.0, 0.0, where, layers))
  assert "\n" not in str(found.value)


def test_the_tower_is_split_below_its_first_adapter():
  for layers, split in ((1, 1), (2, 0), (None, 0)):
    on = LoraConfig(2, 2.0, 0.0, ("tower",), layers)
    assert captioner.make(SEES, on).split == split
  assert captioner.make(SEES, LoraConfig(2, 2.0, 0.0)).split is None
