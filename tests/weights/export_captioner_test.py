"""A captioner's adapter and merged checkpoint, reloaded by others.

The oracles are torch, transformers and peft, as in export_decoder_test.py;
frames go in beside the tokens, and towers and projectors come along.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from synpo_jax import export
from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.models import initial
from synpo_jax.models.captioner import Captioner
from synpo_jax.weights import adapters
from synpo_jax.weights.config_reading import captioner_config
from tests.support.exported_runs import (
  ADAPTER,
  NEW,
  PROMPT,
  TEXT,
  our_logits,
  our_tokens,
  random_,
  random_lora,
  write_run,
)
from tests.support.read_folder import read_folder

pytestmark = pytest.mark.slow

VISION = dict(
  hidden_size=20,
  intermediate_size=28,
  num_hidden_layers=3,
  num_attention_heads=2,
  patch_size=4,
  image_size=12,
)
ARCH = dict(
  llm=dict(
    model_type="llama",
    vocab_size=61,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    hidden_act="silu",
    rms_norm_eps=1e-6,
    tie_word_embeddings=False,
  ),
  visual_encoder=dict(VISION, model_type="clip_vision_model", kept_ratio=0.5),
  projector=dict(depth=2),
)


@pytest.fixture(scope="module")
def video_run(tmp_path_factory):
  """AuroraCap's layout made by torch; adapter and projector were trained."""
  folder = tmp_path_factory.mktemp("video")
  base = folder / "base"
  llm = random_(transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT)))
  llm.save_pretrained(base)
  vision = transformers.CLIPVisionConfig(**VISION, layer_norm_eps=1e-5)
  tower = random_(transformers.CLIPVisionModel(vision))
  tower.save_pretrained(base / "visual_encoder")
  rng = np.random.default_rng(0)
  arrays = {
    f"model.{n}.{part}": rng.normal(size=shape).astype(np.float32) * 0.3
    for n, part, shape in (
      *((0, "weight", (24, 20)), (0, "bias", (24,))),
      *((2, "weight", (24, 24)), (2, "bias", (24,))),
    )
  }
  (base / "projector").mkdir()
  save_file(arrays, base / "projector" / "model.safetensors")
  (base / "projector" / "config.json").write_text('{"depth": 2}')
  config, params = read_folder(base)
  module = Captioner(config, ADAPTER)
  projector = jax.tree.map(lambda x: x + 0.1, params["projector"])
  variables = {
    "params": params | {"projector": projector},
    "lora": random_lora(module),
  }
  trained = {"lora": variables["lora"], "params": {"projector": projector}}
  return write_run(folder / "run", base, trained), base, module, variables


def torch_captions(folder, frames, tokens):
  """Logits [T, V] of one row and its greedy caption, by torch alone."""
  llm = transformers.AutoModelForCausalLM.from_pretrained(folder)
  tower = transformers.CLIPVisionModel.from_pretrained(
    folder / "visual_encoder"
  )
  arrays = load_file(folder / "projector" / "model.safetensors")
  projector = torch.nn.Sequential(
    torch.nn.Linear(20, 24), torch.nn.GELU(), torch.nn.Linear(24, 24)
  )
  projector.load_state_dict(
    {k.removeprefix("model."): torch.tensor(v) for k, v in arrays.items()}
  )
  mean = np.array(transformers.image_utils.OPENAI_CLIP_MEAN)
  std = np.array(transformers.image_utils.OPENAI_CLIP_STD)
  pixels = torch.tensor((frames / 255 - mean) / std).float()
  with torch.no_grad():
    seen = tower(pixels.permute(0, 3, 1, 2), output_hidden_states=True)
    visual = projector(seen.hidden_states[-2][:, 1:]).reshape(-1, 24)
    ids = torch.tensor(np.where(tokens < 0, 0, tokens)).long()
    x = llm.get_input_embeddings()(ids)
    x[torch.tensor(tokens < 0)] = visual
    logits = llm(inputs_embeds=x).logits[0].numpy()
    made = llm.generate(
      inputs_embeds=x, max_new_tokens=NEW, do_sample=False, pad_token_id=2
    )
  caption = made[0].tolist()
  return logits, caption + [2] * (NEW - len(caption))


def test_a_merged_captioner_captions_alike(video_run, tmp_path):
  run, base, module, variables = video_run
  export.export(run, "merged", tmp_path)
  frames = np.random.default_rng(1).integers(0, 256, (2, 12, 12, 3), np.uint8)
  tokens = np.array([[1, *[IMAGE_TOKEN] * 9, 4, *[IMAGE_TOKEN] * 9, 8, 9]])
  tokens = tokens.astype(np.int32)
  expected, caption = torch_captions(tmp_path, frames, tokens)
  ours = jax.jit(module.apply)(variables, jnp.asarray(frames[None]), tokens)
  assert np.abs(expected).max() > 0.5
  np.testing.assert_allclose(ours[0], expected, atol=2e-4)
  assert our_tokens(module, variables, tokens, frames=frames[None]) == caption
  untouched = "visual_encoder/model.safetensors"
  assert (tmp_path / untouched).stat().st_size > 0
  old, new = load_file(base / untouched), load_file(tmp_path / untouched)
  jax.tree.map(np.testing.assert_array_equal, old, new)  # all three layers


def test_a_merged_captioner_remembers_its_merging(video_run, tmp_path):
  run, base, module, _ = video_run
  learned = adapters.read_run(run)
  trained = {"lora": learned.lora, "params": learned.params}
  other = write_run(tmp_path / "run", base, trained, kept_ratio=0.4)
  export.export(other, "merged", tmp_path / "out")
  assert captioner_config(tmp_path / "out").tower.kept_ratio == 0.4


def peer(family):
  vision, text = dict(VISION), transformers.LlamaConfig(**TEXT)
  if family == "llava":
    config = transformers.LlavaConfig(
      vision_config=transformers.CLIPVisionConfig(**vision), text_config=text
    )
    return transformers.LlavaForConditionalGeneration(config)
  depth = dict(depth=2, hidden_size=32, num_heads=2, intermediate_size=40)
  sizes = dict(patch_size=4, window_size=16, out_hidden_size=24)
  config = transformers.Qwen2_5_VLConfig(
    vision_config=depth | sizes | dict(fullatt_block_indexes=[1]),
    text_config=TEXT
    | dict(rope_scaling=dict(type="mrope", mrope_section=[1, 1, 1])),
  )
  return transformers.Qwen2_5_VLForConditionalGeneration(config)


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_peft_reads_the_adapter_of_a_video_model(family, tmp_path):
  """Only the decoder is adapted, though towers have layers of those names."""
  theirs = random_(peer(family))
  theirs.save_pretrained(tmp_path / "base")
  if family == "qwen2_5_vl":
    said = json.loads((tmp_path / "base" / "config.json").read_text())
    said["vision_config"]["feed_size"] = 32
    (tmp_path / "base" / "config.json").write_text(json.dumps(said))
  config, params = read_folder(tmp_path / "base")
  module = Captioner(config, ADAPTER)
  variables = {"params": params, "lora": random_lora(module)}
  run = write_run(
    tmp_path / "run", tmp_path / "base", {"lora": variables["lora"]}
  )
  export.export(run, "peft", tmp_path / "adapter")
  adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")
  placed = [n for n, _ in adapted.named_parameters() if "lora_" in n]
  assert len(placed) == 2 * 7 * TEXT["num_hidden_layers"]
  with torch.no_grad():
    tokens = torch.tensor(PROMPT, dtype=torch.long)
    expected = adapted(input_ids=tokens).logits.numpy()
  ours = our_logits(module, variables, PROMPT)
  np.testing.assert_allclose(ours, expected, atol=1e-4)
  merged = tmp_path / "merged"
  export.export(run, "merged", merged)
  again = type(theirs).from_pretrained(merged)
  with torch.no_grad():
    expected = again(input_ids=tokens).logits.numpy()
  np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_a_run_from_random_weights(tmp_path):
  """All of it was trained; the tokenizer comes along."""
  words = tmp_path / "words"
  words.mkdir()
  (words / "tokenizer.json").write_text("{}")
  module = Captioner(captioner_config(ARCH))
  trained = {"params": initial.params(module, seed=9)}
  run = write_run(
    tmp_path / "run", "", trained, arch=ARCH, tokenizer=str(words)
  )
  out = tmp_path / "out"
  export.export(run, "merged", out)
  config, params = read_folder(out)
  assert config.tower.kept_ratio == 0.5
  jax.tree.map(np.testing.assert_array_equal, params, trained["params"])
  assert (out / "tokenizer.json").read_text() == "{}"


def test_what_cannot_be_written_is_said(video_run, tmp_path):
  run, base, _, _ = video_run
  with pytest.raises(ValueError, match="projector.*--format=merged"):
    export.export(run, "peft", tmp_path / "out")
  with pytest.raises(ValueError, match="is in the checkpoint that the run"):
    export.export(run, "merged", base)
  with pytest.raises(FileNotFoundError, match="no run there"):
    export.export(tmp_path, "peft", tmp_path / "out")
