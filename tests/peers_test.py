"""Video language models against torch: random weights, video and text.

Weights travel as in life, through `save_pretrained` and our loader. Prompts
have their own lengths, padded on the left. Logits agree within 2e-5 of the
largest; the smallest planted bugs seen miss by 1e-3.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from synpo_jax import layout
from synpo_jax.models import weights
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import (
  IMAGE_TOKEN,
  WindowTowerConfig,
  captioner_config,
)
from synpo_jax.models.connectors import bilinear

VIDEO, IMAGE = 7, 6  # ids of their placeholders
VOCAB = 61

TEXT = dict(
  vocab_size=VOCAB,
  hidden_size=24,
  intermediate_size=40,
  num_hidden_layers=2,
  num_attention_heads=6,
  num_key_value_heads=2,
  max_position_embeddings=128,
)
VISION = dict(
  hidden_size=30,
  intermediate_size=44,
  num_hidden_layers=3,
  num_attention_heads=3,
  patch_size=4,
)
IDS = dict(image_token_index=IMAGE, video_token_index=VIDEO)
QWEN_IDS = dict(
  image_token_id=IMAGE,
  video_token_id=VIDEO,
  vision_start_token_id=8,
  vision_end_token_id=9,
)


def onevision(side, **text):
  return transformers.LlavaOnevisionForConditionalGeneration(
    transformers.LlavaOnevisionConfig(
      vision_config=transformers.SiglipVisionConfig(
        **VISION, image_size=4 * side, vision_use_head=False
      ),
      text_config=transformers.Qwen2Config(**(TEXT | text)),
      **IDS,
    )
  )


def next_video(side, stride):
  return transformers.LlavaNextVideoForConditionalGeneration(
    transformers.LlavaNextVideoConfig(
      vision_config=transformers.CLIPVisionConfig(
        **VISION, image_size=4 * side
      ),
      text_config=transformers.LlamaConfig(**TEXT),
      spatial_pool_stride=stride,
      **IDS,
    )
  )


def llava(side):
  return transformers.LlavaForConditionalGeneration(
    transformers.LlavaConfig(
      vision_config=transformers.CLIPVisionConfig(
        **VISION, image_size=4 * side, hidden_act="gelu"
      ),
      text_config=transformers.LlamaConfig(**TEXT),
      image_token_index=IMAGE,
    )
  )


def qwen(window, full, **text):
  text = TEXT | dict(num_attention_heads=3, num_key_value_heads=3) | text
  sections = dict(type="mrope", mrope_section=[1, 1, 2])
  return transformers.Qwen2_5_VLForConditionalGeneration(
    transformers.Qwen2_5_VLConfig(
      vision_config=dict(
        depth=4,
        hidden_size=32,
        intermediate_size=40,
        num_heads=2,
        patch_size=4,
        window_size=window,
        out_hidden_size=24,
        fullatt_block_indexes=full,
        tokens_per_second=3,
      ),
      text_config=dict(**text, rope_scaling=sections),
      **QWEN_IDS,
    )
  )


# name -> torch model, pixels on a side, frames of the two rows
CASES = {
  "onevision": (functools.partial(onevision, 5), 20, (3, 2)),
  "onevision_tied": (
    functools.partial(onevision, 4, tie_word_embeddings=True),
    16,
    (2, 3),
  ),
  "next_video": (functools.partial(next_video, 6, 2), 24, (2, 3)),
  "next_video_edge": (functools.partial(next_video, 5, 3), 20, (2, 1)),
  "llava": (functools.partial(llava, 4), 16, (3, 1)),
  "qwen_short_windows": (functools.partial(qwen, 16, [1, 3]), 40, (4, 6)),
  "qwen_whole_windows": (
    functools.partial(qwen, 16, [2], tie_word_embeddings=True),
    32,
    (6, 2),
  ),
}


@functools.cache
def published(name, folder):
  """The torch model, our model and its weights; `folder` keeps the files."""
  make, side, _ = CASES[name]
  torch.manual_seed(len(name))
  model = make().eval()
  with torch.no_grad():
    for key, p in model.named_parameters():
      level = 1.0 if "norm" in key and key.endswith("weight") else 0.0
      p.copy_(level + torch.randn_like(p) * (0.3 if p.ndim == 1 else 0.2))
  model.tie_weights()
  model.save_pretrained(folder)
  if name.startswith("qwen"):
    feed(folder, side)
  config, params = weights.load(folder, dtype=jnp.float32)
  return model, Captioner(config), {"params": params}


def feed(folder, side):
  """Writes the size of frames into a config; published ones leave it open."""
  content = json.loads((folder / "config.json").read_text())
  content["vision_config"]["feed_size"] = side
  (folder / "config.json").write_text(json.dumps(content))


@pytest.fixture(params=CASES)
def case(request, tmp_path_factory):
  folder = tmp_path_factory.getbasetemp() / request.param
  return request.param, *published(request.param, folder)


def prompts(config, frames, rng):
  """Rows of ids [2, T] with IMAGE_TOKEN, padded left, and their mask."""
  rows = []
  for count, words in zip(frames, (5, 9), strict=True):
    row = rng.integers(10, VOCAB, size=3).tolist()
    for block in config.blocks(count) if count else []:
      row += [8] + [IMAGE_TOKEN] * block + [9]
    rows.append(row + rng.integers(10, VOCAB, size=words).tolist())
  longest = max(map(len, rows))
  tokens = [[0] * (longest - len(row)) + row for row in rows]
  mask = [[False] * (longest - len(r)) + [True] * len(r) for r in rows]
  return np.array(tokens), np.array(mask)


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
  batch = batch | {"features": features}
  return layout.token_logps(
    model, variables, batch, layout="shared", head_chunk=4
  )


def torch_inputs(model, name, tokens, mask, pixels, frames):
  """Keyword arguments of the torch model for the same rows."""
  mark = IMAGE if name == "llava" else VIDEO
  ids = torch.tensor(np.where(tokens == IMAGE_TOKEN, mark, tokens))
  out = dict(input_ids=ids, attention_mask=torch.tensor(mask).long())
  if pixels is None:
    return out
  clips = [torch.tensor(p[:n]) for p, n in zip(pixels, frames, strict=True)]
  clips = [clip.permute(0, 3, 1, 2) for clip in clips]
  if name == "llava":
    return out | dict(pixel_values=torch.cat(clips))
  if name.startswith("qwen"):
    flat, grids = zip(*map(qwen_patches, clips), strict=True)
    out["pixel_values_videos"] = torch.cat(flat)
    return out | dict(video_grid_thw=torch.tensor(grids))
  return out | dict(pixel_values_videos=clips)


def qwen_patches(clip):
  """[F, 3, Y, X] as the published processor flattens it, and its grid."""
  frames, _, height, width = clip.shape
  t, h, w = frames // 2, height // 4, width // 4
  split = clip.reshape(t, 2, 3, h // 2, 2, 4, w // 2, 2, 4)
  split = split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
  return split.reshape(t * h * w, -1), (t, h, w)


def their_logits(model, name, tokens, mask, pixels, frames):
  """Row by row where videos differ in length, which one call cannot take."""
  together = pixels is None or name == "llava" or name.startswith("qwen")
  with torch.no_grad():
    if together:
      inputs = torch_inputs(model, name, tokens, mask, pixels, frames)
      return model(**inputs).logits.numpy()
    rows = []
    for i in range(len(tokens)):
      one = slice(i, i + 1)
      inputs = torch_inputs(
        model, name, tokens[one], mask[one], pixels[one], frames[one]
      )
      inputs["pixel_values_videos"] = inputs["pixel_values_videos"][0][None]
      rows.append(model(**inputs).logits.numpy())
    return np.concatenate(rows)


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


def test_text_prompts_give_the_published_logits(case):
  name, model, captioner, variables = case
  rng = np.random.default_rng(2)
  tokens, mask = prompts(captioner.config, (0, 0), rng)
  ours, *_ = our_logits(captioner, variables, None, tokens, mask)
  assert_close(ours, their_logits(model, name, tokens, mask, None, None), mask)


@pytest.mark.parametrize("name", ["onevision_tied", "qwen_short_windows"])
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
  batch = dict(
    prefix=jnp.asarray(tokens, jnp.int32),
    prefix_mask=jnp.asarray(mask),
    response=jnp.asarray(captions, jnp.int32),
    response_mask=jnp.asarray(real),
  )
  ours = our_logps(captioner, variables, batch, pixels)
  for c in range(2):
    row = np.concatenate([tokens, captions[:, c]], axis=1)
    seen = np.concatenate([mask, real[:, c]], axis=1)
    logits = their_logits(model, name, row, seen, pixels, frames)
    logps = torch.log_softmax(torch.tensor(logits[:, -7:-1]), -1).numpy()
    theirs = np.take_along_axis(logps, captions[:, c, :, None], -1)[..., 0]
    assert_close(ours[:, c], theirs, real[:, c])


@pytest.mark.parametrize("name", ["qwen_short_windows"])
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
  "name", ["onevision_tied", "next_video", "qwen_short_windows"]
)
def test_saved_models_load_again_here_and_in_torch(name, tmp_path_factory):
  folder = tmp_path_factory.getbasetemp() / name
  model, captioner, variables = published(name, folder)
  copy = folder / "copy"
  weights.save(copy, captioner.config, variables["params"])
  config, params = weights.load(copy, dtype=jnp.float32)
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
  save_file(model.state_dict(), other / "model.safetensors")
  _, params = weights.load(other, dtype=jnp.float32)
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
