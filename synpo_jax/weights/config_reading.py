"""A published config to our dataclasses.

An option we do not compute is refused here, before any weight is read.
"""

import dataclasses
import pathlib

from synpo_jax.models.config import (
  CaptionerConfig,
  ConnectorConfig,
  DecoderConfig,
  RopeScaling,
)
from synpo_jax.models.tower_config import TowerConfig, WindowTowerConfig
from synpo_jax.runtime import json_file, shipped
from synpo_jax.weights import (
  decoder_configs,
  multimodal_configs,
  tower_configs,
)


def decoder_config(hf: dict) -> DecoderConfig:
  """The decoder a published language-model config describes.

  `hf` is the content of a `config.json`. Raises ValueError naming the field
  for a model_type, activation or RoPE scaling that we do not compute.
  """
  fields = decoder_configs.decoder_fields(hf)
  scaling = fields.pop("rope_scaling")
  if scaling is not None:
    scaling = RopeScaling(**scaling)
  return DecoderConfig(rope_scaling=scaling, **fields)


def tower_config(
  hf: dict, *, feature_layer: int, pixels: dict | None = None
) -> TowerConfig | WindowTowerConfig:
  """The tower a published vision config describes.

  `feature_layer` is the hidden state that is tapped, counted as in a list of
  layers + 1 states (-2: all layers but the last). `pixels` is the content of
  a `preprocessor_config.json`. Our own keys in `hf`: `feed_size`, the size of
  frames where it is not the published one; `kept_ratio` of token merging,
  which published files leave to the caller; `merge_layers` and `final_norm`,
  which a tower saved up to its tap needs.
  """
  if hf.get("model_type") in tower_configs.WINDOWS:
    return WindowTowerConfig(**tower_configs.window_fields(hf, pixels))
  return TowerConfig(**tower_configs.vit_fields(hf, feature_layer, pixels))


def captioner_config(source: str | pathlib.Path | dict) -> CaptionerConfig:
  """The captioner of a checkpoint folder, or of its configs as one dict.

  A dict is the `config.json` of a language model or of a video language
  model (`multimodal.FAMILIES`), or, for the AuroraCap layout,
  {"llm": ..., "visual_encoder": ..., "projector": ...} with the content of
  the three folders' `config.json`.
  """
  c = source if isinstance(source, dict) else read_folder(source)
  root = c.get("llm", c)
  if root.get("quantization_config"):
    raise ValueError(
      "quantization_config: quantised checkpoints are not read; save the "
      "model again in bfloat16, without it"
    )
  if multimodal_configs.family_of(root) in multimodal_configs.FAMILIES:
    return _multimodal_config(root, c.get("preprocessor"))
  if "visual_encoder" not in c:
    return CaptionerConfig(decoder_config(root))
  vision = c["visual_encoder"]
  tower = tower_config(
    vision,
    feature_layer=vision.get("feature_layer", -2),
    pixels=c.get("preprocessor"),
  )
  if tower.layout == "clip":  # AuroraCap's layers ignore the file's epsilon
    tower = dataclasses.replace(tower, norm_eps=1e-5)
  _check_projector(c["projector"])
  return CaptionerConfig(
    decoder_config(root), tower, ConnectorConfig("auroracap")
  )


def _multimodal_config(hf: dict, pixels: dict | None) -> CaptionerConfig:
  parts = multimodal_configs.parts(hf)
  layer = parts.feature_layer
  tower = tower_config(parts.vision, feature_layer=layer, pixels=pixels)
  connector = ConnectorConfig(**parts.connector)
  return CaptionerConfig(decoder_config(parts.text), tower, connector)


def _check_projector(hf: dict) -> None:
  wanted = dict(depth=2, hidden_act="gelu", bias=True)
  for key, value in wanted.items():
    if hf.get(key, value) != value:
      raise ValueError(f"projector {key} {hf[key]!r}: only {value!r} is known")


def read_folder(folder: str | pathlib.Path) -> dict:
  """The configs of a checkpoint folder, as `captioner_config` takes them."""
  folder = shipped.find(folder)
  c = {"llm": json_file.read(folder / "config.json")}
  tower, pixels = folder / "visual_encoder", "preprocessor_config.json"
  if tower.is_dir():
    c["visual_encoder"] = json_file.read(tower / "config.json")
    c["projector"] = json_file.read(folder / "projector" / "config.json")
  for file in (tower / pixels, folder / f"video_{pixels}", folder / pixels):
    if file.exists():
      return c | {"preprocessor": json_file.read(file)}
  whole = folder / "processor_config.json"  # as Transformers 5 writes it
  parts = json_file.read(whole) if whole.exists() else {}
  of_video = parts.get("video_processor") or parts.get("image_processor")
  return c | {"preprocessor": of_video}
