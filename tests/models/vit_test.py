"""Towers against the official release's arrays and the torch models."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from synpo_jax.models import position_table, vit
from synpo_jax.weights import tensor_names
from synpo_jax.weights.config_reading import captioner_config, tower_config
from tests.support.paths import GOLDEN

pytestmark = pytest.mark.usefixtures("optimised")  # as users compile


def tree(config, tensors):
  """Our parameters from published tensors, by the name map."""
  params = {}
  for leaf in tensor_names.tower_leaves(config, ""):
    parts = [
      leaf.from_published(np.asarray(tensors[name], np.float32), flax=False)
      for name in leaf.names(flax=False)
    ]
    *path, last = leaf.path.removeprefix("tower/").split("/")
    place = functools.reduce(lambda d, key: d.setdefault(key, {}), path, params)
    place[last] = np.stack(parts) if leaf.stacked else parts[0]
  return {"params": params}


def run(config, variables, pixels, bodies=6):
  """Features, sizes and assignment, as NumPy; pixels are [I, 3, Y, X]."""
  tower = vit.Tower(config, bodies=bodies)
  apply = jax.jit(functools.partial(tower.apply, method="trace"))
  return jax.tree.map(
    np.asarray, apply(variables, np.moveaxis(np.float32(pixels), 1, 3))
  )


@functools.cache
def golden(name):
  """The file, its config, and its weights as our parameters."""
  file = dict(np.load(GOLDEN / f"tower_{name}.npz"))
  config = captioner_config(
    {
      "llm": {"model_type": "llama"},
      "visual_encoder": json.loads(str(file["config"])),
      "projector": json.loads(str(file["projector_config"])),
    }
  ).tower
  prefix = "visual_encoder/"
  tensors = {k.removeprefix(prefix): v for k, v in file.items() if prefix in k}
  return file, config, tree(config, tensors)


def cases():
  """All sizes and ratios; one compiled body (most spare slots) or three."""
  for name, sizes in (("a", 1), ("b", 1), ("c", 3)):
    for size in range(sizes):
      for ratio in range(4):
        yield name, size, ratio, 3 if (name, ratio) == ("b", 3) else 1


@pytest.mark.parametrize("name, size, ratio, bodies", cases())
def test_tower_is_the_official_one(name, size, ratio, bodies):
  file, config, variables = golden(name)
  config = dataclasses.replace(config, kept_ratio=float(file["ratios"][ratio]))
  features, sizes, assignment = run(
    config, variables, file[f"pixel_values/{size}"], bodies
  )
  want = f"out/{size}/{ratio}/"
  np.testing.assert_array_equal(sizes, file[want + "sizes"])
  np.testing.assert_array_equal(assignment, file[want + "assignment"])
  # measured 4.3e-6; the tanh form of GELU misses by 6.5e-4
  np.testing.assert_allclose(features, file[want + "features"], atol=2e-5)
  assert (sizes.sum(axis=1) == assignment.shape[1]).all()
  assert (sizes[:, 0] == 1).all() and (assignment[:, 0] == 0).all()


def test_layers_of_auroracap_ignore_the_configured_epsilon():
  _, config, _ = golden("a")
  vision = dict(model_type="clip_vision_model", layer_norm_eps=1e-3)
  c = {"llm": {"model_type": "llama"}, "visual_encoder": vision}
  tower = captioner_config({**c, "projector": {}}).tower
  assert (tower.embed_norm_eps, tower.norm_eps) == (1e-3, 1e-5)


def test_gradients_flow_through_the_merges():
  file, config, variables = golden("b")
  config = dataclasses.replace(config, kept_ratio=0.1)
  tower = vit.Tower(config, remat="full", bodies=1)
  pixels = jnp.asarray(np.moveaxis(np.float32(file["pixel_values/0"]), 1, 3))
  rng = np.random.default_rng(0)
  weight = rng.normal(size=file["out/0/3/features"].shape).astype(np.float32)
  step = jax.tree.map(lambda w: rng.normal(size=w.shape) * w.std(), variables)

  @jax.jit
  @jax.value_and_grad
  def loss(scale):
    moved = jax.tree.map(lambda w, s: w + scale * s, variables, step)
    return jnp.mean(weight * tower.apply(moved, pixels))

  h = 1e-3  # no merge changes within it
  (high, _), (low, _), (_, slope) = map(loss, (h, -h, 0.0))
  assert float(slope) == pytest.approx(float(high - low) / (2 * h), rel=5e-3)


def randomise(model, seed):
  """Weights of a size that shows every term: norms and biases too."""
  torch.manual_seed(seed)
  with torch.no_grad():
    for name, p in model.named_parameters():
      level = 1.0 if "norm" in name and name.endswith("weight") else 0.0
      p.copy_(level + torch.randn_like(p) * (0.3 if p.ndim == 1 else 0.15))
  return model.eval()


def torch_case(model, config, pixels, hidden, **kwargs):
  """Our features, and theirs at `hidden` (an index, or None: the output)."""
  with torch.no_grad():
    out = model(torch.tensor(pixels), output_hidden_states=True, **kwargs)
  theirs = (
    out.last_hidden_state if hidden is None else out.hidden_states[hidden]
  )
  ours = run(config, tree(config, model.state_dict()), pixels)[0]
  return ours, theirs[:, int(config.class_token) :].numpy()


def pixels_of(seed, height, width):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(2, 3, height, width)).astype(np.float32)


@pytest.mark.parametrize(
  "width, heads, patch, act, hidden",
  [
    (48, 3, 14, "quick_gelu", -2),
    (40, 5, 8, "gelu", -1),
    (32, 2, 7, "gelu", 1),
  ],
)
def test_clip_matches_torch(width, heads, patch, act, hidden):
  hf = transformers.CLIPVisionConfig(
    hidden_size=width,
    num_attention_heads=heads,
    intermediate_size=width + 24,
    num_hidden_layers=3,
    image_size=patch * 4,
    patch_size=patch,
    hidden_act=act,
    layer_norm_eps=3e-4,
  )
  model = randomise(transformers.CLIPVisionModel(hf), width)
  config = tower_config(hf.to_dict(), feature_layer=hidden)
  pixels = pixels_of(0, patch * 4, patch * 4)
  ours, theirs = torch_case(model, config, pixels, hidden)
  np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize(
  "width, heads, act, hidden, size",
  [(48, 4, "gelu", None, (56, 56)), (36, 3, "gelu_pytorch_tanh", -2, (42, 84))],
)
def test_dinov2_matches_torch(width, heads, act, hidden, size):
  hf = transformers.Dinov2Config(
    hidden_size=width,
    num_attention_heads=heads,
    mlp_ratio=3,
    num_hidden_layers=3,
    image_size=56,
    patch_size=14,
    hidden_act=act,
    layer_norm_eps=3e-4,
  )
  model = randomise(transformers.Dinov2Model(hf), width)
  config = tower_config(hf.to_dict(), feature_layer=hidden or -1)
  ours, theirs = torch_case(model, config, pixels_of(1, *size), hidden)
  np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize(
  "width, heads, patch, hidden", [(48, 3, 14, -1), (40, 5, 8, -2)]
)
def test_siglip_matches_torch(width, heads, patch, hidden):
  hf = transformers.SiglipVisionConfig(
    hidden_size=width,
    num_attention_heads=heads,
    intermediate_size=width + 24,
    num_hidden_layers=3,
    image_size=patch * 4,
    patch_size=patch,
    layer_norm_eps=3e-4,
    vision_use_head=False,
  )
  model = randomise(transformers.SiglipVisionModel(hf), width)
  config = tower_config(hf.to_dict(), feature_layer=hidden)
  pixels = pixels_of(2, patch * 4, patch * 4)
  ours, theirs = torch_case(model, config, pixels, hidden)
  np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("old, new", [(4, 7), (9, 5), (3, 3)])
def test_tables_are_resized_as_in_torch(old, new):
  table = np.random.default_rng(old).normal(size=(old, 6)).astype(np.float32)
  theirs = torch.nn.functional.interpolate(
    torch.tensor(table)[None, None],
    scale_factor=((new + 0.1) / old, 1.0),
    mode="bicubic",
  )[0, 0]
  ours = position_table.bicubic(old, new, 0.1) @ table
  np.testing.assert_allclose(ours, theirs, atol=1e-5)


def full_size(ratio):
  return tower_config(
    dict(
      model_type="clip_vision_model",
      hidden_size=1280,
      intermediate_size=5120,
      num_hidden_layers=32,
      num_attention_heads=16,
      image_size=378,
      patch_size=14,
      kept_ratio=ratio,
    ),
    feature_layer=-2,
  )


@pytest.mark.parametrize("ratio, kept", [(0.1, 109), (0.3, 264), (1.0, 729)])
def test_full_size_shapes(ratio, kept):
  """ViT-H of AuroraCap: tokens, dtype, and the release's parameter count."""
  tower = vit.Tower(full_size(ratio), dtype=jnp.bfloat16)
  pixels = jax.ShapeDtypeStruct((2, 378, 378, 3), jnp.float32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  features, variables = jax.eval_shape(tower.init_with_output, key, pixels)
  assert features.shape == (2, kept, 1280) and features.dtype == jnp.bfloat16
  here = sum(leaf.size for leaf in jax.tree.leaves(variables))
  layers = jax.tree.leaves(variables["params"]["layers"])
  layer = sum(leaf.size for leaf in layers) // 31
  # the published tower has a 32nd layer and a last norm, never computed
  assert here + layer + 2 * 1280 == 631_371_520
