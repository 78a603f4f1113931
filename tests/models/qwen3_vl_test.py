"""What Qwen3-VL alone does, against torch: frames of any shape, adapters.

Its prompts and logits are compared in peers_test.py, with the other families.
"""

import functools
import importlib
from fractions import Fraction
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import AddedToken
from transformers.models.qwen3_vl import processing_qwen3_vl
from transformers.video_utils import VideoMetadata

from synpo_jax.data import video
from synpo_jax.data.batch import Batch
from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.generation import prompt_batches
from synpo_jax.models import captioner as captioning
from synpo_jax.models.config import LoraConfig
from synpo_jax.training import pair_logps
from synpo_jax.weights.config_reading import captioner_config
from tests.support import clips, tokenizers_made
from tests.support.adapter_peers import (
  WEIGHTS,
  adapted,
  drawn,
  near,
  our_gradients,
  same_gradients,
)
from tests.support.peers import (
  CASES,
  VOCAB,
  prompts,
  published,
  qwen_patches,
  torch_inputs,
)

pytestmark = pytest.mark.slow

NAME = "qwen3_deep"
LORA = LoraConfig(3, 6.0, 0.0, ("decoder", "projector", "tower"), 2)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
  folder = tmp_path_factory.getbasetemp() / NAME
  return published(NAME, folder)


@functools.partial(jax.jit, static_argnums=(0, 3))
def our_(module, params, x, method):
  return module.apply({"params": params}, x, method=method)


def test_frames_of_any_shape_leave_the_tower_as_published(case):
  """Embeddings, and what DeepStack adds behind them."""
  model, captioner, variables = case
  pixels = np.random.default_rng(0).normal(size=(1, 4, 24, 40, 3))
  pixels = pixels.astype(np.float32)
  features = our_(captioner, variables["params"], pixels, "encode_pixels")
  ours = our_(captioner, variables["params"], features, "connect")[0]
  clip = torch.tensor(pixels[0]).permute(0, 3, 1, 2)
  patches, grid = qwen_patches(clip)
  with torch.no_grad():
    last, deep = model.model.visual(patches, torch.tensor([grid]))
  theirs = torch.cat([last, *deep], dim=-1).numpy()
  assert len(deep) == 2 and ours.shape == theirs.shape
  limit = 2e-5 * np.abs(theirs).max()
  np.testing.assert_allclose(ours, theirs, atol=limit)


def batch_of(captioner, name):
  """Two prompts with videos of two lengths, two captions each; pixels."""
  _, side, frames = CASES[name]
  rng = np.random.default_rng(8)
  pixels = rng.normal(size=(2, max(frames), side, side, 3)).astype(np.float32)
  tokens, mask = prompts(captioner.config, frames, rng)
  captions = rng.integers(10, VOCAB, size=(2, 2, 5))
  real = np.arange(5) < np.array([[5, 2], [3, 4]])[..., None]
  rows = Batch(
    prefix=jnp.asarray(tokens, jnp.int32),
    prefix_mask=jnp.asarray(mask),
    response=jnp.asarray(captions, jnp.int32),
    response_mask=jnp.asarray(real),
    weight=jnp.ones(2),
    row=jnp.arange(2),
  )
  return rows, pixels


def their_loss(model, name, batch, pixels):
  """The same loss, a row for each caption."""
  tokens, mask = np.asarray(batch.prefix), np.asarray(batch.prefix_mask)
  total = 0.0
  for c, weight in enumerate(WEIGHTS):
    words = np.asarray(batch.response)[:, c]
    real = np.asarray(batch.response_mask)[:, c]
    row = np.concatenate([tokens, words], axis=1).astype(np.int64)
    seen = np.concatenate([mask, real], axis=1)
    frames = CASES[name][2]
    inputs = torch_inputs(model, name, row, seen, pixels, frames)
    logps = torch.log_softmax(model(**inputs).logits[:, -6:-1], dim=-1)
    picked = logps.gather(-1, torch.tensor(row[:, -5:])[..., None])[..., 0]
    total = total + weight * (picked * torch.tensor(real)).sum()
  return total


# Linear layers of a decoder, a tower and a connector, of each of their kinds.
ADAPTED = {
  NAME: 7 + 4 + 2 * 3,
  "qwen_short_windows": 7 + 5 + 2,
  "qwen2": 7 + 4 + 2,
  "llava": 7 + 6 + 2,
}


@pytest.mark.parametrize("name", ADAPTED)
def test_adapters_learn_what_torch_says(name, tmp_path_factory):
  """Loss and gradients of a and b, once in both layouts of a pair's rows.

  On the decoder, the connector and the last layers of the tower, from what
  enters these.

  And those of DeepStack's mergers, of which one is looked at.
  """
  folder = tmp_path_factory.getbasetemp() / name
  model, captioner, variables = published(name, folder)
  rows, pixels = batch_of(captioner, name)
  module = captioning.make(captioner.config, LORA)
  lora, scale = drawn(module), LORA.alpha / LORA.rank
  kept = {k: v.clone() for k, v in model.state_dict().items()}
  pairs = adapted(model, captioner, lora, scale)
  loss = their_loss(model, name, rows, pixels)
  loss.backward()
  params = variables["params"]
  assert len(pairs) == ADAPTED[name]
  below = module.clone(lora=None)
  features = our_(below, params, pixels, "encode_pixels")
  rows = rows._replace(features=features)
  for layout in pair_logps.LAYOUTS if name == NAME else ("shared",):
    found = our_gradients(module, layout, params, lora, rows)
    value, (grads, projector) = found
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    if name == NAME:
      merger = model.model.visual.deepstack_merger_list[1].linear_fc2.weight
      near(projector["deep_1"]["fc1"]["kernel"], merger.grad.T)
    same_gradients(grads, pairs, scale)
  model.zero_grad(set_to_none=True)
  model.load_state_dict(kept)


@pytest.fixture(scope="module")
def processor():
  """The published processor, told how large the grid of each frame is.

  Its parts that read pixels want torchvision; those tried here do not.
  """
  tokenizer = tokenizers_made.chatml()
  tokenizer.add_tokens([AddedToken("<|video_pad|>", special=True)])
  made = object.__new__(processing_qwen3_vl.Qwen3VLProcessor)
  made.tokenizer = tokenizer
  made.image_token, made.image_token_id = "<|image_pad|>", -1
  made.video_token = "<|video_pad|>"
  made.video_token_id = tokenizer.convert_tokens_to_ids("<|video_pad|>")
  made.vision_start_token = "<|vision_start|>"
  made.vision_end_token = "<|vision_end|>"
  return made


class Grids:
  """Stands for the video processor: a grid of 4 x 6 patches a pair."""

  merge_size = 2

  def __call__(self, videos, **_):
    pairs = [-(-len(video.frames_indices) // 2) for video in videos]
    grids = torch.tensor([[n, 4, 6] for n in pairs])
    return dict(video_grid_thw=grids, video_metadata=videos)


@pytest.mark.parametrize(
  "count, rate, limits",
  [(100, "25", (4, 768)), (77, "30000/1001", (4, 5)), (8, "8", (2, 768))],
)
def test_frames_and_prompt_are_the_processors(
  count, rate, limits, processor, tmp_path
):
  """Which frames of a file, when they are, and the ids of the question."""
  path = clips.stamped(tmp_path / "clip.mp4", count, rate=rate)
  rule = video.FrameRule(*limits, 2.0, rounding="nearest")
  clip = video.read(path, rule)
  published = importlib.import_module(
    "transformers.models.qwen3_vl.video_processing_qwen3_vl"
  ).Qwen3VLVideoProcessor
  facts = VideoMetadata(total_num_frames=count, fps=float(Fraction(rate)))
  fewest, most = limits
  settings = SimpleNamespace(fps=2, min_frames=fewest, max_frames=most)
  facts.frames_indices = published.sample_frames(settings, facts)
  assert clip.indices.tolist() == facts.frames_indices.tolist()
  tokenizer, processor.video_processor = processor.tokenizer, Grids()
  mark = "<|vision_start|><|video_pad|><|vision_end|>"
  asked = tokenizer.apply_chat_template(
    [dict(role="user", content=f"{mark}What is it?")],
    tokenize=False,
    add_generation_prompt=True,
  )
  theirs = processor(text=[asked], videos=[facts])["input_ids"][0]
  even = len(clip.times) + len(clip.times) % 2
  config = SimpleNamespace(blocks=lambda n, size: [6] * (n // 2))
  form = prompt_batches.Format(tokenizer, "qwen3_vl", config, 1)
  asked = form, ["What is it?"], even, clip.times
  prefix, (tail,) = prompt_batches.make(*asked)
  ours = np.array([*prefix, *tail])
  ours[ours == IMAGE_TOKEN] = processor.video_token_id
  assert ours.tolist() == theirs


def test_what_is_not_computed_is_refused():
  sections = dict(rope_scaling=dict(mrope_section=[24, 20, 20]))

  def with_(text=(), vision=()):
    parts = dict(text_config=sections | dict(text), vision_config=dict(vision))
    return captioner_config(dict(model_type="qwen3_vl", **parts))

  assert with_().blocks(4) == [144, 144]
  refused = {
    "lacks mrope_section": dict(text=dict(rope_scaling=None)),
    "mrope_interleaved False": dict(
      text=dict(
        rope_scaling=dict(mrope_section=[1, 1, 1], mrope_interleaved=False)
      )
    ),
    "hidden_act 'silu'": dict(vision=dict(hidden_act="silu")),
    "num_position_embeddings 8": dict(vision=dict(num_position_embeddings=8)),
    "in their order": dict(vision=dict(deepstack_visual_indexes=[8, 4])),
    "give some of 27 layers": dict(vision=dict(deepstack_visual_indexes=[27])),
  }
  for message, parts in refused.items():
    with pytest.raises(ValueError, match=message):
      with_(**parts)
