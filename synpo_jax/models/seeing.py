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


def check(config: CaptionerConfig, adapted: bool, cached: bool) -> None:
  """Raises ValueError for training that frames of several sizes rule out.

  Features of several sizes lie end to end in a batch, as they leave the tower.
  config: one that `follow` gave. adapted: whether adapters on its tower train.
  cached: whether its features are read from a cache.
  """
  if config.follow is None:
    return
  way_out = "pixels.resize=squash (or crop), for frames of one size"
  if adapted:
    raise ValueError(
      "lora.where has the tower, whose adapted layers read frames of one size, "
      f"and sizes of frames follow their video; set {way_out}"
    )
  if not cached:
    raise ValueError(
      "cache.features=False, and frames whose sizes follow their video are "
      f"read as cached features alone; set cache.features=True, or {way_out}"
    )


def preprocess(config: CaptionerConfig, pixels: dict) -> video.Preprocess:
  """What becomes of frames; the config is one that `follow` gave."""
  rule, resample = config.follow, pixels["resample"]
  if rule is not None:
    return video.Preprocess((None, None), "follow", resample, rule)
  side = config.tower.image_size if config.tower else 1
  resize = "crop" if pixels["resize"] == "auto" else pixels["resize"]
  return video.Preprocess((side, side), resize, resample)
