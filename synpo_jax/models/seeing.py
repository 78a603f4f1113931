"""What a config's `pixels` section makes of frames for a model."""

import dataclasses

from synpo_jax.data import video
from synpo_jax.models.config import CaptionerConfig
from synpo_jax.models.tower_config import WindowTowerConfig


def follow(config: CaptionerConfig, pixels: dict) -> CaptionerConfig:
  """The same captioner, of frames whose size follows the video if it is asked.

  pixels: `resize` is a way of video.Preprocess, or "auto": "follow" where the
  model's own processor does so, else "crop". `tokens`: of a video, at most.
  Raises ValueError for a model that cannot, and for no tokens.
  """
  resize = pixels["resize"]
  if resize not in ("follow", "auto") or config.tower is None:
    return config
  if not isinstance(config.tower, WindowTowerConfig):
    if resize == "auto":
      return config
    raise ValueError(
      "pixels.resize=follow: this model reads frames of one size; set it to "
      "crop or squash"
    )
  if pixels["tokens"] < 1:
    raise ValueError(f"pixels.tokens={pixels['tokens']}: give 1 or more")
  tower = dataclasses.replace(config.tower, budget=pixels["tokens"])
  return dataclasses.replace(config, tower=tower)


def preprocess(config: CaptionerConfig, pixels: dict) -> video.Preprocess:
  """What becomes of frames; the config is one that `follow` gave."""
  rule, resample = config.follow, pixels["resample"]
  if rule is not None:
    return video.Preprocess((None, None), "follow", resample, rule)
  side = config.tower.image_size if config.tower else 1
  resize = "crop" if pixels["resize"] == "auto" else pixels["resize"]
  return video.Preprocess((side, side), resize, resample)
