"""Frames whose size follows their video, against the published processors.

Sizes are the processors' own. Pixels are theirs where they resize with Pillow
(Qwen2-VL, Qwen2.5-VL). Qwen3-VL's resizes in torch, whose filters round once
where Pillow's round, and clip, behind each axis: two levels of 255 apart at
most where nothing is clipped.
"""

import functools
import importlib
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.image_utils import SizeDict
from transformers.models.qwen2_vl import image_processing_qwen2_vl as qwen2

from synpo_jax.data import video
from synpo_jax.data.batch import Batch
from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.data.frame_size import Follow
from synpo_jax.models import captioner as captioners
from synpo_jax.models import seeing, sharding
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import LoraConfig
from synpo_jax.training import pair_logps
from tests.support import adapter_peers as peers
from tests.support.peers import VIDEO, VOCAB, published, qwen_patches

qwen3 = importlib.import_module(
  "transformers.models.qwen3_vl.video_processing_qwen3_vl"
)
pytestmark = pytest.mark.slow

PIXELS = dict(resize="auto", resample="bicubic", tokens=96)
FRAMES = (1, 2, 3, 5, 8, 31)
SHAPES = [(90, 160), (480, 270), (64, 64), (33, 900), (720, 1280), (100, 47)]


@pytest.mark.parametrize("least, most", [(0, 10**9), (60_000, 90_000)])
def test_sizes_are_those_of_the_processors(least, most):
  """While the budget is ample; of frames one by one, and of whole videos."""
  for frames in FRAMES:
    for shape in SHAPES:
      one = Follow(28, 2, least, most, False, 10**9)(frames, *shape)
      assert one == qwen2.smart_resize(*shape, 28, least, most)
      asked = max(frames, 2), *shape, 2, 32, least, most
      whole = Follow(32, 2, least, most, True, 10**9)(frames, *shape)
      assert whole == qwen3.smart_resize(*asked)


@pytest.mark.parametrize("whole", [False, True])
def test_a_budget_is_kept_and_shared_by_the_steps(whole):
  limits, refused = (10_000, 10**9, whole), set()
  rule, free = Follow(16, 2, *limits, 100), Follow(16, 2, *limits, 10**9)
  for frames, shape in itertools.product(FRAMES, SHAPES):
    steps = -(-frames // 2)
    size = free(frames, *shape)
    if steps * rule.cells(size) > 100:
      size = qwen2.smart_resize(*shape, 16, 0, 100 // steps * 16**2)
    if steps * rule.cells(size) <= 100:
      assert rule(frames, *shape) == size
      continue
    with pytest.raises(ValueError, match="raise pixels.tokens=100"):
      rule(frames, *shape)
    refused.add(shape)
  assert refused == {(33, 900)}  # a row of 27 squares, at least
  assert all(rule.cells(rule.largest(n)) <= 100 // -(-n // 2) for n in FRAMES)


def test_what_the_processors_refuse_is_refused():
  with pytest.raises(ValueError, match="frames of 2010x10: too long"):
    Follow(28, 2, 0, 10**9, False, 10**9)(2, 10, 2010)
  with pytest.raises(ValueError, match="frames of 40x20: .*32 pixels at least"):
    Follow(32, 2, 0, 10**9, True, 10**9)(2, 20, 40)


def clip(rows, cols, frames=4):
  """Fields of colours with noise, none so strong that filters clip it."""
  rng = np.random.default_rng(rows)
  coarse = rng.integers(64, 192, (frames, 5, 5, 3))
  fine = np.kron(coarse, np.ones((1, -(-rows // 5), -(-cols // 5), 1)))
  fine = fine[:, :rows, :cols] + rng.integers(-9, 10, (frames, rows, cols, 3))
  return fine.astype(np.uint8)


def resized(form, frames):
  return np.stack([video.preprocess(x, form, len(frames)) for x in frames])


def patches(frames):
  """As `qwen_patches`, of pixels in units that the processors use here."""
  pixels = torch.tensor(frames / 255, dtype=torch.float32) * 2 - 1
  return qwen_patches(pixels.permute(0, 3, 1, 2))


HOW = dict(
  do_resize=True,
  do_rescale=True,
  rescale_factor=1 / 255,
  do_normalize=True,
  image_mean=[0.5] * 3,
  image_std=[0.5] * 3,
  patch_size=4,
  temporal_patch_size=2,
  merge_size=2,
)


@pytest.mark.parametrize("shape", [(48, 85), (90, 37), (24, 24)])
def test_pixels_and_grids_are_the_processors(shape):
  frames = clip(*shape)
  rule = Follow(8, 2, 2000, 3000, False, 10**6)
  form = video.Preprocess((None, None), "follow", "bicubic", rule)
  ours, grid = patches(resized(form, frames))
  processor = qwen2.Qwen2VLImageProcessor(min_pixels=2000, max_pixels=3000)
  size = dict(shortest_edge=2000, longest_edge=3000)
  theirs, their_grid = processor._preprocess(
    list(frames), size=size, resample=3, **HOW
  )
  assert grid == their_grid
  np.testing.assert_allclose(ours, theirs, atol=1e-6)

  def resize(videos, size, **_):
    made = torch.nn.functional.interpolate(
      videos.float(),
      (size.height, size.width),
      mode="bicubic",
      antialias=True,
    )
    return made.round().clamp(0, 255)

  def normalise(videos, *_):
    return videos / 255 * 2 - 1

  rule = Follow(8, 2, 8000, 12_000, True, 10**6)
  form = video.Preprocess((None, None), "follow", "bicubic", rule)
  ours, grid = patches(resized(form, frames))
  found = qwen3.Qwen3VLVideoProcessor._preprocess(
    SimpleNamespace(resize=resize, rescale_and_normalize=normalise),
    [torch.tensor(frames).permute(0, 3, 1, 2)],
    size=SizeDict(shortest_edge=8000, longest_edge=12_000),
    **HOW,
  )
  assert [list(grid)] == found["video_grid_thw"].tolist()
  levels = (ours - found["pixel_values_videos"]).abs() * 255 / 2
  assert levels.max() <= 2.01 and levels.mean() < 0.5


@functools.partial(jax.jit, static_argnums=0)
def features_of(model, variables, pixels):
  made = model.apply(variables, pixels[None], method="encode_pixels")
  return made.reshape(-1, made.shape[-1])


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, variables, features, tokens, mask):
  apply = functools.partial(model.apply, variables)
  x = apply(tokens, apply(features, method="connect"), method="embed")
  positions, _ = apply(tokens, mask, method="positions")
  hidden, _ = apply(x, positions, mask.astype(jnp.int32), method="decode")
  return apply(hidden, method="logits")


# Frames, rows and columns of pixels: no square, and windows that are not full.
MIXED = ((4, 24, 40), (6, 40, 16), (2, 8, 56))


def mixed(name, tmp_path_factory):
  """(torch model, ours, weights, rows and features of MIXED, their videos).

  Features end to end, padded to the prompt's length, as in training.
  """
  folder = tmp_path_factory.getbasetemp() / name
  model, captioner, variables = published(name, folder)
  captioner = Captioner(seeing.follow(captioner.config, PIXELS))
  rng = np.random.default_rng(3)
  rows, grids, flat, seen = [], [], [], []
  for words, (count, *size) in enumerate(MIXED, 3):
    row = rng.integers(10, VOCAB, size=words).tolist()
    for block in captioner.config.blocks(count, tuple(size)):
      row += [8, *block, 9]
    rows.append(row + rng.integers(10, VOCAB, size=2 * words).tolist())
    pixels = rng.normal(size=(count, *size, 3)).astype(np.float32)
    seen.append(np.asarray(features_of(captioner, variables, pixels)))
    pieces, grid = qwen_patches(torch.tensor(pixels).permute(0, 3, 1, 2))
    flat.append(pieces)
    grids.append(grid)
  longest = max(map(len, rows))
  tokens = np.array([[0] * (longest - len(row)) + row for row in rows])
  mask = np.arange(longest) >= longest - np.array([*map(len, rows)])[:, None]
  features = np.zeros((len(rows), 1, longest, seen[0].shape[-1]), np.float32)
  for row, made in zip(features, seen, strict=True):
    row[0, : len(made)] = made
  videos = dict(
    pixel_values_videos=torch.cat(flat), video_grid_thw=torch.tensor(grids)
  )
  return model, captioner, variables, (tokens, mask, features), videos


def their_logits(model, tokens, mask, videos):
  return model(
    input_ids=torch.tensor(np.where(tokens <= IMAGE_TOKEN, VIDEO, tokens)),
    attention_mask=torch.tensor(mask).long(),
    **videos,
  ).logits


@pytest.mark.parametrize("name", ["qwen_short_windows", "qwen2", "qwen3_deep"])
def test_a_batch_of_mixed_sizes_gives_the_published_logits(
  name, tmp_path_factory
):
  model, captioner, variables, rows, videos = mixed(name, tmp_path_factory)
  tokens, mask, features = rows
  ours = logits_of(captioner, variables, features, tokens, mask)
  with torch.no_grad():
    theirs = their_logits(model, tokens, mask, videos).numpy()
  limit = 2e-5 * np.abs(theirs[mask]).max()
  np.testing.assert_allclose(np.asarray(ours)[mask], theirs[mask], atol=limit)


ON = LoraConfig(3, 6.0, 0.0, ("decoder", "projector"))
SCALE = ON.alpha / ON.rank


def batch_of(tokens, mask, features):
  """Two captions behind each prompt."""
  rng = np.random.default_rng(5)
  response = rng.integers(10, VOCAB, size=(len(tokens), 2, 4))
  lengths = np.array([[4, 2], [3, 4], [1, 3], [2, 2]])[: len(tokens)]
  return Batch(
    prefix=jnp.asarray(tokens, jnp.int32),
    prefix_mask=jnp.asarray(mask),
    response=jnp.asarray(response, jnp.int32),
    response_mask=jnp.asarray(np.arange(4) < lengths[..., None]),
    weight=jnp.ones(len(tokens)),
    row=jnp.arange(len(tokens)),
    features=jnp.asarray(features),
  )


def test_devices_share_a_batch_of_mixed_sizes(tmp_path_factory):
  """Four devices, a prompt each, find captions as likely as one does."""
  _, captioner, variables, rows, _ = mixed("qwen3_deep", tmp_path_factory)
  batch = batch_of(*(np.concatenate([x, x[:1]]) for x in rows))
  found = []
  for data, fsdp in ((1, 1), (2, 2)):
    own = jax.devices()[: data * fsdp]
    mesh = sharding.make_mesh(data=data, fsdp=fsdp, model=1, devices=own)
    how = dict(layout_name="shared", head_chunk=4, mesh=mesh)
    scoring = pair_logps.make_scoring(**how)
    score = functools.partial(pair_logps.pair_logps, captioner)
    places = sharding.tree_shardings(variables, mesh)
    placed = jax.device_put(batch, sharding.rows_sharding(mesh))
    assert len(placed.features.sharding.device_set) == data * fsdp
    weights = jax.device_put(variables, places)
    logps = jax.jit(functools.partial(score, scoring=scoring))(weights, placed)
    found.append(np.asarray(logps)[np.asarray(batch.response_mask)])
  one, four = found
  np.testing.assert_allclose(four, one, atol=1e-5)
  assert one.std() > 0.01


@pytest.mark.parametrize("name", ["qwen_short_windows", "qwen3_deep"])
def test_adapters_learn_from_mixed_sizes_what_torch_says(
  name, tmp_path_factory
):
  """Loss, and gradients of each a and b."""
  model, captioner, variables, rows, videos = mixed(name, tmp_path_factory)
  tokens, mask, _ = rows
  batch = batch_of(*rows)
  response, real = map(np.asarray, (batch.response, batch.response_mask))
  module = captioners.make(captioner.config, ON)
  lora = peers.drawn(module)
  kept = {k: v.clone() for k, v in model.state_dict().items()}
  pairs = peers.adapted(model, captioner, lora, SCALE)
  total = 0.0
  for c, weight in enumerate(peers.WEIGHTS):
    row = np.concatenate([tokens, response[:, c]], axis=1)
    seen = np.concatenate([mask, real[:, c]], axis=1)
    logits = their_logits(model, row, seen, videos)
    logps = torch.log_softmax(logits[:, -5:-1], dim=-1)
    words = torch.tensor(response[:, c])
    picked = logps.gather(-1, words[..., None])[..., 0]
    total = total + weight * (picked * torch.tensor(real[:, c])).sum()
  total.backward()
  loss, (grads, _) = peers.our_gradients(
    module, "shared", variables["params"], lora, batch
  )
  np.testing.assert_allclose(loss, total.item(), rtol=1e-5)
  peers.same_gradients(grads, pairs, SCALE)
  model.zero_grad(set_to_none=True)
  model.load_state_dict(kept)
