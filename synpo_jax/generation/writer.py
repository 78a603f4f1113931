"""Opens a captioner: a checkpoint, perhaps an adapter, in place on a mesh."""

from typing import NamedTuple

import jax
from absl import logging

from synpo_jax.data import text
from synpo_jax.endpoints import secrets
from synpo_jax.generation.captioning import Writer
from synpo_jax.generation.prompt_batches import Format
from synpo_jax.models import int8, seeing, sharding
from synpo_jax.models.config import CaptionerConfig
from synpo_jax.runtime import buckets, workdir
from synpo_jax.weights import fingerprint, loading
from synpo_jax.weights.config_reading import captioner_config


class Placing(NamedTuple):
  """A config's `placing` section; captions do not depend on it.

  mesh: sizes of data, fsdp and model over the devices of this process.
  attention: "auto", or a back end of `models.attention`. batch_size: videos
  whose captions grow at once. prefix_buckets: as `prompt_batches.rung` takes
  them. frame_buckets: numbers of frames that clips are padded to.
  """

  mesh: dict[str, int]
  attention: str
  batch_size: int
  prefix_buckets: int | tuple[int, ...]
  frame_buckets: int | tuple[int, ...]


def open_writer(
  placing: dict,
  *,
  checkpoint: str,
  adapter: str,
  kept_ratio: float | None,
  dtype: str,
  base: str,
  kv: str,
  template: str,
  pixels: dict,
  endpoint: str = "",
) -> Writer:
  """Loads the captioner of a config's `model` section.

  Args:
    placing: the fields of `Placing`.
    checkpoint: a published folder with its tokenizer; "" takes that of the
      run in `adapter`.
    adapter: workdir of a training run, a PEFT folder, or "". Merged into the
      weights.
    kept_ratio: share of visual tokens that stay; None leaves it to the run,
      else to the checkpoint.
    dtype: of weights and computation. base, kv: "float", or "int8" for a
      byte each of the decoder's linear layers, and of keys and values.
    template: a key of data.text.TEMPLATES.
    pixels: as models.seeing takes them.
    endpoint: "": what is served elsewhere is asked by generation.served.

  Raises ValueError or OSError: one line that says what does not fit.
  """
  placing = Placing(**placing)
  if endpoint:
    raise ValueError(f"model.endpoint={secrets.shown(endpoint)}: not used here")
  checkpoint, kept_ratio, words = _of_run(adapter, checkpoint, kept_ratio)
  _check_int8(base, kv, adapter)
  _check(checkpoint, adapter)
  mesh = sharding.make_mesh(**placing.mesh, devices=jax.local_devices())
  config = seeing.follow(_sizes(checkpoint, kept_ratio, base), pixels)
  dtype = loading.choose_dtype(dtype)
  model = loading.on_mesh(config, mesh, dtype, placing.attention)
  params = loading.load_params(model, checkpoint, mesh)
  if adapter:
    params = loading.merge_adapter(params, adapter, model, mesh)
  tokenizer = _tokenizer(words or checkpoint, template, config)
  _tell_time(checkpoint, config)
  return Writer(
    model,
    {"params": params},
    Format(tokenizer, template, config, placing.prefix_buckets),
    _ends(checkpoint, tokenizer, template),
    mesh,
    seeing.preprocess(config, pixels),
    placing.batch_size,
    placing.frame_buckets,
    kv == "int8",
  )


def _of_run(adapter: str, checkpoint: str, kept_ratio: float | None):
  """(checkpoint, kept_ratio, tokenizer): what is not given is the run's."""
  if not workdir.is_run(adapter):
    return checkpoint, kept_ratio, ""
  model = workdir.run_config(adapter)["model"]
  if kept_ratio is None:
    kept_ratio = model["kept_ratio"]
  return checkpoint or model["checkpoint"], kept_ratio, model["tokenizer"]


def _tokenizer(folder: str, template: str, config: CaptionerConfig):
  """The one in a folder, which the template and the captioner can use."""
  tokenizer = text.load_tokenizer(folder)
  text.check_time(template, config.stamped)
  text.check_vocabulary(tokenizer, template, config.decoder.vocab)
  return tokenizer


def _tell_time(checkpoint: str, config: CaptionerConfig) -> None:
  """Says how Qwen2.5-VL counts the time of a clip."""
  if config.connector.positions_per_second:
    logging.warning(
      "%s: each %d frames count as %g s in every clip, whatever lies between "
      "them; seconds_per_step in its config.json sets that",
      *(checkpoint, config.frames_per_step, config.connector.seconds_per_step),
    )


def _ends(checkpoint, tokenizer, template) -> tuple[int, ...]:
  """The token that ends a caption, then others that end a text."""
  end = text.end_id(tokenizer, template)
  others = text.eos_ids(buckets.at(checkpoint), tokenizer)
  return end, *(i for i in others if i not in (end, None))


def _check(checkpoint: str, adapter: str):
  if not checkpoint:
    raise ValueError("model.checkpoint: name the folder of a captioner")
  folder = buckets.at(checkpoint)
  base = [*folder.glob("config.json"), *folder.glob("model*")]
  peft = (folder / "adapter_config.json").exists()
  if peft and not base or workdir.is_run(folder) and len(base) == 1:
    raise ValueError(
      f"model.checkpoint={checkpoint}: an adapter; name it as model.adapter, "
      "and its base as model.checkpoint"
    )
  if workdir.is_run(adapter):
    fingerprint.check_base(adapter, checkpoint)


def _check_int8(base: str, kv: str, adapter: str):
  for key, value in (("base", base), ("kv", kv)):
    if value not in int8.BASES:
      known = " or ".join(int8.BASES)
      raise ValueError(f"model.{key}={value}: choose {known}")
  if base == "int8" and adapter:
    raise ValueError(
      f"model.base=int8 takes no model.adapter={adapter}: export it merged "
      "(synpo_jax.export) and name that folder as model.checkpoint"
    )


def _sizes(checkpoint, kept_ratio, base) -> CaptionerConfig:
  config = captioner_config(checkpoint)
  if config.tower is None:
    raise ValueError(f"{checkpoint}: a language model, it sees no video")
  if kept_ratio is not None:
    config = config.with_kept_ratio(kept_ratio)
  return config.with_int8_base() if base == "int8" else config
