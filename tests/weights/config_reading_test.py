"""What published `config.json` files mean, in older and newer spellings."""

import json

import pytest
import transformers

from synpo_jax.weights.config_reading import captioner_config
from synpo_jax.weights.config_writing import decoder_json

LINEAR = dict(rope_type="linear", factor=4.0)


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(model_type="mamba"), "'mamba' is not one of llama"),
    (dict(rope_scaling=dict(rope_type="yarn", factor=2)), "'yarn' is not"),
    (dict(rope_parameters=dict(rope_type="yarn", factor=2)), "'yarn' is not"),
    (dict(rope_parameters=dict(partial_rotary_factor=0.5)), "partial_rotary"),
    (dict(hidden_act="relu"), "'relu' is not one of"),
    (dict(num_key_value_heads=3), "is no multiple of"),
    (dict(head_dim=5), "head_dim 5"),
    (dict(rope_scaling=dict(type="llama3", factor=2)), "lacks low_freq_factor"),
    (dict(layer_types=["chunked_attention"] * 2), "'chunked_attention' is not"),
    (dict(layer_types=["full_attention"]), "names 1 layers"),
    (dict(use_bidirectional_attention=True), "use_bidirectional_attention"),
    (dict(partial_rotary_factor=0.5), "partial_rotary_factor"),
    (dict(hidden_act="quick_gelu"), "'quick_gelu' is known in towers only"),
    (dict(quantization_config=dict(bits=4)), "quantised checkpoints are not"),
  ],
)
def test_options_we_do_not_compute(change, message):
  with pytest.raises(ValueError, match=message):
    captioner_config(dict(model_type="llama", num_hidden_layers=2) | change)


@pytest.mark.parametrize(
  "said, theta, factor",
  [
    (dict(rope_theta=7.0), 7, None),
    (dict(rope_parameters=dict(rope_theta=5.0)), 5, None),
    (dict(rope_parameters=LINEAR, rope_theta=7.0), 7, 4),
    (dict(rope_parameters=LINEAR, rope_scaling=None), 1e4, 4),
    (dict(rope_parameters=LINEAR | dict(rope_theta=5), rope_theta=7), 5, 4),
  ],
)
def test_rope_in_older_and_newer_words(said, theta, factor):
  """As Transformers 5 reads them; 4 knows the older ones only."""
  decoder = captioner_config(dict(model_type="llama", **said)).decoder
  assert decoder.rope_theta == theta
  assert (decoder.rope_scaling and decoder.rope_scaling.factor) == factor


def test_rope_of_two_sorts_of_layers():
  def thetas(**said):
    c = captioner_config(dict(model_type="gemma3_text", **said)).decoder
    return c.rope_theta, c.rope_local_theta, c.rope_scaling is not None

  assert thetas() == (1e6, 1e4, False)
  assert thetas(rope_parameters=dict(full_attention=LINEAR)) == (1e6, 1e4, True)
  local = dict(rope_type="default", rope_theta=9.0)
  both = dict(full_attention=dict(rope_theta=5.0), sliding_attention=local)
  assert thetas(rope_parameters=both) == (5, 9, False)
  with pytest.raises(ValueError, match="sliding_attention is scaled"):
    thetas(rope_parameters=dict(sliding_attention=LINEAR))


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl"])
def test_the_outer_config_ties_the_head_from_transformers_5_on(family):
  """4 writes its own default there, whatever the language model does."""

  def ties(version, outer, inner):
    hf = dict(model_type=family, tie_word_embeddings=outer, text_config=inner)
    hf["transformers_version"] = version
    return captioner_config(hf).decoder.tied

  inner = dict(num_hidden_layers=1)
  assert ties("5.0.0.dev0", True, inner) and not ties("5.1.0", False, inner)
  assert not ties("4.57.6", True, inner)
  assert ties("4.57.6", False, inner | dict(tie_word_embeddings=True))


def test_windows_over_video_positions_are_refused():
  """They count tokens, and a video's tokens share positions."""
  hf = dict(model_type="qwen2_5_vl", num_hidden_layers=2, max_window_layers=1)
  assert not captioner_config(hf).decoder.sliding
  with pytest.raises(ValueError, match="use_sliding_window is not supported"):
    captioner_config(hf | dict(use_sliding_window=True))
  captioner_config(hf | dict(use_sliding_window=True, max_window_layers=2))


def test_an_integer_is_written_as_one():
  """Others refuse 144.00000000000003, the square of its inverse root."""
  hf = dict(model_type="gemma2", query_pre_attn_scalar=144)
  said = decoder_json(captioner_config(hf).decoder)["query_pre_attn_scalar"]
  assert said == 144 and isinstance(said, int)


def test_a_captioner_without_one_of_its_configs(tmp_path):
  (tmp_path / "config.json").write_text('{"model_type": "llama"}')
  (tmp_path / "visual_encoder").mkdir()
  said = tmp_path / "visual_encoder" / "config.json"
  with pytest.raises(FileNotFoundError, match="visual_encoder/config.json"):
    captioner_config(tmp_path)
  said.write_text('{"hidden_size": 8}')
  with pytest.raises(FileNotFoundError, match="projector/config.json"):
    captioner_config(tmp_path)
  (tmp_path / "projector").mkdir()
  (tmp_path / "projector" / "config.json").write_text("{}")
  with pytest.raises(ValueError, match="tower None is not one of clip"):
    captioner_config(tmp_path)


def test_what_a_config_leaves_open(tmp_path):
  """The published classes' own towers; pixels as the processor says."""
  for hf in (
    transformers.LlavaNextVideoConfig(),
    transformers.LlavaOnevisionConfig(),
  ):
    bare = captioner_config(dict(model_type=hf.model_type))
    assert bare.tower == captioner_config(hf.to_dict()).tower
  (tmp_path / "config.json").write_text('{"model_type": "llava"}')
  said = dict(image_mean=[0.1, 0.2, 0.3])
  for file, whole in (
    ("processor_config.json", dict(image_processor=said)),
    ("preprocessor_config.json", said),
  ):
    (tmp_path / file).write_text(json.dumps(whole))
    tower = captioner_config(tmp_path).tower
    assert tower.mean == (0.1, 0.2, 0.3) and tower.std[0] == 0.26862954
    (tmp_path / file).unlink()
