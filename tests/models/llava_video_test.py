"""LLaVA-Video's own folder, against LLaVA-OneVision's parts in torch.

They differ in where the learned embedding stands: behind the video, or, as
`add_token_per_grid` of the published program has it, behind each row of each
frame. Transformers has no class for the latter.
"""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from synpo_jax.models.captioner import Captioner
from synpo_jax.weights.config_reading import captioner_config
from synpo_jax.weights.config_writing import config_files
from tests.support import families, peers
from tests.support.read_folder import read_folder

NAMES = (  # of Transformers' class -> of the published folder
  ("model.language_model.", "model."),
  ("model.vision_tower.", "model.vision_tower.vision_tower."),
  ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
  ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
  """(torch's model, ours, its weights), the folder as lmms-lab has it."""
  folder = tmp_path_factory.mktemp("llava_video")
  theirs, reference, _ = peers.published("onevision", folder / "hf")
  tensors = {}
  for name, value in theirs.state_dict().items():
    for start, stead in NAMES:
      name = (
        stead + name.removeprefix(start) if name.startswith(start) else name
      )
    tensors[name] = value.clone()
  tower = "model.vision_tower.vision_tower.vision_model"
  assert f"{tower}.post_layernorm.weight" in tensors
  tensors.pop("lm_head.weight")  # tied
  (folder / "own").mkdir()
  save_file(tensors, folder / "own" / "model.safetensors")
  config = captioner_config(families.ARCHITECTURES["llava_video"])
  config = type(config)(
    reference.config.decoder, reference.config.tower, config.connector
  )
  written = config_files(config)["config.json"]
  assert written["model_type"] == "llava" and "text_config" not in written
  families.write_json(folder / "own" / "config.json", written)
  config, params = read_folder(folder / "own")
  return theirs, Captioner(config), {"params": params}


def test_each_row_of_a_frame_is_closed(case):
  theirs, model, variables = case
  frames, side = 3, 5
  rng = np.random.default_rng(0)
  pixels = rng.normal(size=(1, frames, 20, 20, 3)).astype(np.float32)
  features = model.apply(variables, jnp.asarray(pixels), method="encode_pixels")
  ours = np.asarray(model.apply(variables, features, method="connect"))[0]
  clip = torch.tensor(pixels).permute(0, 1, 4, 2, 3)
  with torch.no_grad():
    pooled = theirs.model.get_video_features(
      clip, vision_feature_layer=-1, vision_feature_select_strategy="full"
    )
    rows = pooled.reshape(frames, -(-side // 2), -(-side // 2), -1)
    end = theirs.model.image_newline.expand(*rows.shape[:2], 1, -1)
    wanted = torch.cat([rows, end], dim=2).flatten(0, 2)
  assert model.config.blocks(frames) == [len(wanted)] == [frames * 3 * 4]
  limit = 2e-5 * wanted.abs().max().item()
  np.testing.assert_allclose(ours, wanted.numpy(), atol=limit)


def test_words_around_a_video_are_scored_as_by_its_decoder(case):
  """Frames beyond a row's own change nothing: every row is padded alike."""
  theirs, model, variables = case
  rng = np.random.default_rng(1)
  frames = rng.integers(0, 256, (1, 4, 20, 20, 3), np.uint8)
  tokens, _ = peers.prompts(model.config, (3, 3), rng)
  tokens = tokens[1:]
  ours = model.apply(variables, jnp.asarray(frames), jnp.asarray(tokens))
  features = model.apply(variables, jnp.asarray(frames[:, :3]), method="encode")
  visual = model.apply(variables, features, method="connect")[0]
  ids = torch.tensor(np.maximum(tokens, 0))
  with torch.no_grad():
    embeds = theirs.get_input_embeddings()(ids)
    embeds[torch.tensor(tokens < 0)] = torch.tensor(np.asarray(visual))
    wanted = theirs.lm_head(
      theirs.model.language_model(inputs_embeds=embeds).last_hidden_state
    ).numpy()
  limit = 2e-5 * np.abs(wanted).max()
  np.testing.assert_allclose(np.asarray(ours), wanted, atol=limit)


def test_what_is_not_computed_is_refused():
  own = families.ARCHITECTURES["llava_video"]
  refused = {
    "mm_newline_position 'frame'": dict(mm_newline_position="frame"),
    "mm_spatial_pool_mode 'average'": dict(mm_spatial_pool_mode="average"),
    "mm_vision_tower 'openai/clip": dict(mm_vision_tower="openai/clip-L"),
    "add_faster_video True": dict(add_faster_video=True),
    "architectures .'LlavaLlama": dict(architectures=["LlavaLlamaForCausalLM"]),
  }
  for message, said in refused.items():
    with pytest.raises(ValueError, match=message):
      captioner_config(own | said)
