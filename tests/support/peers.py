"""Tiny random video language models in torch, and prompts for them.

Weights travel as in life, through `save_pretrained` and our loader. Prompts
have their own lengths, padded on the left.
"""

import functools
import json

import numpy as np
import torch
import transformers

from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.models.captioner import Captioner
from tests.support.read_folder import read_folder

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


def qwen2(**text):
  text = TEXT | dict(num_attention_heads=3, num_key_value_heads=1) | text
  sections = dict(type="mrope", mrope_section=[1, 1, 2])
  return transformers.Qwen2VLForConditionalGeneration(
    transformers.Qwen2VLConfig(
      vision_config=dict(
        depth=3,
        embed_dim=32,
        hidden_size=24,
        mlp_ratio=1.5,
        num_heads=2,
        patch_size=4,
      ),
      text_config=dict(**text, rope_scaling=sections),
      **QWEN_IDS,
    )
  )


def qwen3(table, deep, **text):
  """As many sections as make the axes take turns, and time have the rest."""
  text = TEXT | dict(num_attention_heads=3, num_key_value_heads=1) | text
  sections = dict(
    rope_type="default", mrope_interleaved=True, mrope_section=[3, 2, 2]
  )
  return transformers.Qwen3VLForConditionalGeneration(
    transformers.Qwen3VLConfig(
      vision_config=dict(
        depth=4,
        hidden_size=32,
        intermediate_size=40,
        num_heads=2,
        patch_size=4,
        out_hidden_size=24,
        num_position_embeddings=table**2,
        deepstack_visual_indexes=deep,
      ),
      text_config=dict(
        **text | dict(head_dim=14, num_hidden_layers=3), rope_scaling=sections
      ),
      tie_word_embeddings=text.get("tie_word_embeddings", False),
      **QWEN_IDS,
    )
  )


# name -> torch model, pixels on a side, frames of the two rows
CASES = {
  "onevision": (
    functools.partial(onevision, 5, tie_word_embeddings=True),
    20,
    (3, 2),
  ),
  "next_video": (functools.partial(next_video, 5, 2), 20, (2, 1)),
  "llava": (functools.partial(llava, 4), 16, (3, 1)),
  "qwen_short_windows": (functools.partial(qwen, 16, [1, 3]), 40, (4, 6)),
  "qwen_whole_windows": (
    functools.partial(qwen, 16, [2], tie_word_embeddings=True),
    32,
    (6, 2),
  ),
  "qwen2": (qwen2, 40, (4, 6)),
  "qwen2_tied": (
    functools.partial(qwen2, tie_word_embeddings=True),
    32,
    (6, 2),
  ),
  "qwen3_deep": (functools.partial(qwen3, 7, [0, 2]), 40, (4, 6)),
  "qwen3_tied": (
    functools.partial(qwen3, 3, [3], tie_word_embeddings=True),
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
  config, params = read_folder(folder)
  return model, Captioner(config), {"params": params}


def feed(folder, side):
  """Writes the size of frames into a config; published ones leave it open."""
  content = json.loads((folder / "config.json").read_text())
  content["vision_config"]["feed_size"] = side
  (folder / "config.json").write_text(json.dumps(content))


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
