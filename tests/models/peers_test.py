"""Video language models against torch: random weights, video and text.

Logits agree within 2e-5 of the largest; the smallest planted bugs seen miss
by 1e-3.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from synpo_jax.data.batch import Batch
from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.generation import decode, sampling
from synpo_jax.generation.decode_loop import Prompts
from synpo_jax.models.captioner import normalise
from synpo_jax.models.connectors import bilinear
from synpo_jax.models.tower_config import WindowTowerConfig
from synpo_jax.training import pair_logps
from synpo_jax.weights import folders
from synpo_jax.weights.config_reading import captioner_config
from tests.support.peers import (
  CASES,
  VIDEO,
  VOCAB,
  prompts,
  published,
  their_logits,
  torch_inputs,
)
from tests.support.read_folder import read_folder

pytestmark = pytest.mark.slow


@pytest.fixture(params=CASES)
def case(request, tmp_path_factory):
  folder = tmp_path_factory.getbasetemp() / request.param
  return request.param, *published(request.param, folder)


@functools.partial(jax.jit, static_argnums=0)
def our_logits(model, variables, pixels, tokens, mask):
  apply = functools.partial(model.apply, variables)
  visual = None
  if pixels is not None:
    features = apply(pixels, method="encode_pixels")
    visual = apply(features, method="connect")
  x = apply(tokens, visual, method="embed")
  positions, following = apply(tokens, mask, method="positions")
  segments = mask.astype(jnp.int32)
  hidden, _ = apply(x, positions, segments, method="decode")
  return apply(hidden, method="logits"), positions, following


@functools.partial(jax.jit, static_argnums=0)
def our_logps(model, variables, batch, pixels):
  features = model.apply(variables, pixels, method="encode_pixels")
  batch = batch._replace(features=features)
  scoring = pair_logps.Scoring("shared", 4, None, None)
  return pair_logps.pair_logps(model, variables, batch, scoring)


def assert_close(ours, theirs, mask):
  ours, theirs = np.asarray(ours)[mask], theirs[mask]
  np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


def test_video_prompts_give_the_published_logits(case):
  name, model, captioner, variables = case
  _, side, frames = CASES[name]
  rng = np.random.default_rng(1)
  pixels = rng.normal(size=(2, max(frames), side, side, 3)).astype(np.float32)
  for row, count in enumerate(frames):
    pixels[row, count:] = 0  # what a batch holds beyond a row's own frames
  tokens, mask = prompts(captioner.config, frames, rng)
  ours, *_ = our_logits(captioner, variables, pixels, tokens, mask)
  theirs = their_logits(model, name, tokens, mask, pixels, frames)
  assert_close(ours, theirs, mask)


@pytest.mark.parametrize(
  "case",
  [
    "onevision",
    "next_video",
    "llava",
    "qwen_short_windows",
    "qwen2",
    "qwen3_tied",
  ],
  indirect=True,
)
def test_text_prompts_give_the_published_logits(case):
  name, model, captioner, variables = case
  rng = np.random.default_rng(2)
  tokens, mask = prompts(captioner.config, (0, 0), rng)
  ours, *_ = our_logits(captioner, variables, None, tokens, mask)
  assert_close(ours, their_logits(model, name, tokens, mask, None, None), mask)


@pytest.mark.parametrize("name", ["onevision", "qwen_short_windows", "qwen2"])
def test_training_rows_score_captions_as_published(name, tmp_path_factory):
  """Prompt and two captions in one row; every row's video has its length."""
  folder = tmp_path_factory.getbasetemp() / name
  model, captioner, variables = published(name, folder)
  _, side, frames = CASES[name]
  rng = np.random.default_rng(5)
  pixels = rng.normal(size=(2, max(frames), side, side, 3)).astype(np.float32)
  tokens, mask = prompts(captioner.config, frames, rng)
  captions = rng.integers(10, VOCAB, size=(2, 2, 6))
  lengths = np.array([[6, 3], [2, 5]])
  real = np.arange(6) < lengths[..., None]
  batch = Batch(
    prefix=jnp.asarray(tokens, jnp.int32),
    prefix_mask=jnp.asarray(mask),
    response=jnp.asarray(captions, jnp.int32),
    response_mask=jnp.asarray(real),
    weight=jnp.ones(2),
    row=jnp.arange(2),
  )
  ours = our_logps(captioner, variables, batch, pixels)
  for c in range(2):
    row = np.concatenate([tokens, captions[:, c]], axis=1)
    seen = np.concatenate([mask, real[:, c]], axis=1)
    logits = their_logits(model, name, row, seen, pixels, frames)
    logps = torch.log_softmax(torch.tensor(logits[:, -7:-1]), -1).numpy()
    theirs = np.take_along_axis(logps, captions[:, c, :, None], -1)[..., 0]
    assert_close(ours[:, c], theirs, real[:, c])


@pytest.mark.parametrize(
  "name", ["qwen_whole_windows", "qwen2_tied", "qwen3_tied"]
)
def test_qwen_goes_on_as_published(name, tmp_path_factory):
  """Greedy tokens behind prompts whose positions are fewer than their tokens.

  Row by row in torch, whose batched generation wants equal videos.
  """
  folder = tmp_path_factory.getbasetemp() / name
  model, captioner, variables = published(name, folder)
  _, side, frames = CASES[name]
  rng = np.random.default_rng(6)
  video = rng.integers(0, 256, (2, 6, side, side, 3), np.uint8)
  tokens, mask = prompts(captioner.config, frames, rng)
  batch = Prompts(tokens.astype(np.int32), mask, frames=video)
  ours = decode.generate(
    captioner,
    variables,
    jax.tree.map(jnp.asarray, batch),
    decode.row_keys(0, ["a", "b"]),
    candidates=1,
    max_new_tokens=6,
    sampling=sampling.GREEDY,
    eos_ids=(VOCAB,),
  )
  tower = captioner.config.tower
  pixels = np.asarray(normalise(jnp.asarray(video), tower.mean, tower.std))
  for i, length in enumerate(mask.sum(axis=1)):
    one = slice(i, i + 1)
    inputs = torch_inputs(
      model,
      name,
      tokens[one, -length:],
      mask[one, -length:],
      pixels[one],
      frames[one],
    )
    theirs = model.generate(
      **inputs, max_new_tokens=6, do_sample=False, eos_token_id=None
    )
    assert ours.tokens[i, 0].tolist() == theirs[0, length:].tolist()


@pytest.mark.parametrize("name", ["qwen_short_windows", "qwen2", "qwen3_deep"])
def test_qwen_positions_are_the_published_ones(name, tmp_path_factory):
  folder = tmp_path_factory.getbasetemp() / name
  model, captioner, variables = published(name, folder)
  frames, rng = CASES[name][2], np.random.default_rng(3)
  tokens, mask = prompts(captioner.config, frames, rng)
  ids = torch.tensor(np.where(tokens == IMAGE_TOKEN, VIDEO, tokens))
  theirs, deltas = model.model.get_rope_index(
    ids,
    None,
    torch.tensor([[n // 2, 10, 10] for n in frames]),
    attention_mask=torch.tensor(mask).long(),
  )
  positions, following = captioner.apply(
    variables, jnp.asarray(tokens), jnp.asarray(mask), method="positions"
  )
  theirs = np.moveaxis(theirs.numpy(), 0, -1)
  np.testing.assert_array_equal(positions[mask], theirs[mask])
  assert following.tolist() == (deltas[:, 0] + tokens.shape[1]).tolist()


@pytest.mark.parametrize(
  "name",
  ["onevision", "next_video", "qwen_short_windows", "qwen2", "qwen3_deep"],
)
def test_saved_models_load_again_here_and_in_torch(name, tmp_path_factory):
  folder = tmp_path_factory.getbasetemp() / name
  model, captioner, variables = published(name, folder)
  copy = folder / "copy"
  folders.save(copy, captioner.config, variables["params"])
  config, params = read_folder(copy)
  jax.tree.map(np.testing.assert_array_equal, params, variables["params"])
  assert config.blocks(4) == captioner.config.blocks(4)
  again = type(model).from_pretrained(copy).eval()
  _, side, frames = CASES[name]
  rng = np.random.default_rng(4)
  pixels = rng.normal(size=(2, max(frames), side, side, 3)).astype(np.float32)
  tokens, mask = prompts(config, frames, rng)
  first, second = (
    their_logits(m, name, tokens, mask, pixels, frames)[mask]
    for m in (model, again)
  )
  np.testing.assert_allclose(first, second, atol=1e-5 * np.abs(first).max())


def test_newer_spellings_of_names_load_too(tmp_path_factory):
  from safetensors.torch import save_file

  folder = tmp_path_factory.getbasetemp() / "next_video"
  model, captioner, variables = published("next_video", folder)
  other = folder / "newer"
  other.mkdir()
  (other / "config.json").write_text((folder / "config.json").read_text())
  for part in ("", "vision_model."):  # which Transformers 5 leaves out
    tensors = {k.replace(part, ""): v for k, v in model.state_dict().items()}
    save_file(tensors, other / "model.safetensors")
    _, params = read_folder(other)
    jax.tree.map(np.testing.assert_array_equal, params, variables["params"])


@pytest.mark.parametrize("old, new", [(27, 14), (24, 12), (5, 3)])
def test_grids_are_resized_as_in_torch(old, new):
  grid = np.random.default_rng(old).normal(size=(old, 4)).astype(np.float32)
  theirs = torch.nn.functional.interpolate(
    torch.tensor(grid)[None, None], size=(new, 4), mode="bilinear"
  )[0, 0]
  np.testing.assert_allclose(bilinear(old, new) @ grid, theirs, atol=2e-6)


def test_what_is_not_computed_is_refused():
  clip = dict(model_type="clip_vision_model")
  video = dict(model_type="llava_next_video", vision_config=clip)
  refused = {
    "spatial_pool_mode 'max'": video | dict(spatial_pool_mode="max"),
    "vision_feature_select_strategy 'full'": video
    | dict(vision_feature_select_strategy="full"),
    "only one layer is known": video | dict(vision_feature_layer=[-2, -5]),
    "vision_feature_layer -14": video | dict(vision_feature_layer=-14),
    "projector_hidden_act 'relu'": video | dict(projector_hidden_act="relu"),
  }
  for message, hf in refused.items():
    with pytest.raises(ValueError, match=message):
      captioner_config(hf)


def test_frames_come_in_pairs_and_grids_stay_whole():
  sections = dict(type="mrope", mrope_section=[16, 24, 24])
  c = captioner_config(dict(model_type="qwen2_5_vl", rope_scaling=sections))
  assert isinstance(c.tower, WindowTowerConfig)
  assert c.blocks(8) == [4 * 144]
  with pytest.raises(ValueError, match="7 frames: this model reads 2"):
    c.blocks(7)
  with pytest.raises(ValueError, match="no tower whose tokens"):
    c.with_kept_ratio(0.5)
  video = captioner_config(
    dict(
      model_type="llava_next_video",
      vision_config=dict(
        model_type="clip_vision_model", image_size=336, patch_size=14
      ),
    )
  )
  assert video.blocks(8) == [8 * 144]
  with pytest.raises(ValueError, match="pools a square grid"):
    video.with_kept_ratio(0.3).blocks(8)
