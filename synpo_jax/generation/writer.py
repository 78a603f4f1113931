"""Opens a captioner: a checkpoint, perhaps an adapter, in place on a mesh."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax

from synpo_jax.data import text, video
from synpo_jax.generation import captioning, prompt_batches
from synpo_jax.models import sharding
from synpo_jax.models.config import CaptionerConfig
from synpo_jax.runtime import workdir
from synpo_jax.weights import loading
from synpo_jax.weights.config_reading import captioner_config


def open_writer(
  *,
  checkpoint: str,
  adapter: str,
  kept_ratio: float | None,
  dtype: str,
  template: str,
  pixels,
  attention: str,
  mesh,
  batch_size: int,
  prefix_buckets: int | tuple[int, ...],
  frame_buckets: int | tuple[int, ...],
) -> tuple[Callable, Callable]:
  """Loads a captioner: (prepare, write).

  Args:
    checkpoint: a published folder with its tokenizer; "" takes that of the
      run in `adapter`.
    adapter: workdir of a training run, a PEFT folder, or "". Merged into the
      weights.
    kept_ratio: share of visual tokens that stay; None leaves it to the run,
      else to the checkpoint.
    dtype: of weights and computation. template: a key of data.text.TEMPLATES.
    attention: "auto", or a back end of `models.attention`.
    pixels: resize and resample of video.Preprocess.
    mesh: sizes of data, fsdp and model over the devices of this process.
    batch_size: shots at once. *_buckets: lengths that prompts and frames are
      padded to; each combination is compiled once.

  Raises ValueError or OSError: one line that says what does not fit.
  """
  words = ""
  if workdir.is_run(adapter):
    run = workdir.run_config(adapter)
    checkpoint = checkpoint or run["model"]["checkpoint"]
    ratio = run["model"]["kept_ratio"]
    kept_ratio = ratio if kept_ratio is None else kept_ratio
    words = run["model"]["tokenizer"]
  _check(checkpoint)
  dtype = loading.choose_dtype(dtype)
  places = sharding.make_mesh(**mesh, devices=jax.local_devices())
  config = _sizes(checkpoint, kept_ratio)
  model = loading.on_mesh(config, places, dtype, attention)
  params = loading.load_params(model, checkpoint, places)
  if adapter:
    params = loading.merge_adapter(params, adapter, model, places)
  tokenizer = text.load_tokenizer(words or checkpoint)
  ends = text.eos_ids(Path(checkpoint), tokenizer)
  end = text.end_id(tokenizer, template)
  captioner = captioning.Loaded(
    model,
    {"params": params},
    prompt_batches.Format(tokenizer, template, config, prefix_buckets),
    (end, *(i for i in ends if i not in (end, None))),
    places,
    batch_size,
    frame_buckets,
  )
  side = config.tower.image_size
  prepare = partial(
    video.preprocess, how=video.Preprocess((side, side), **pixels)
  )
  return prepare, partial(captioning.write, captioner)


def _check(checkpoint):
  if not checkpoint:
    raise ValueError("model.checkpoint: name the folder of a captioner")
  folder = Path(checkpoint)
  base = [*folder.glob("config.json"), *folder.glob("model*")]
  peft = (folder / "adapter_config.json").exists()
  if peft and not base or workdir.is_run(folder) and len(base) == 1:
    raise ValueError(
      f"model.checkpoint={checkpoint}: an adapter; name it as model.adapter, "
      "and its base as model.checkpoint"
    )


def _sizes(checkpoint, kept_ratio) -> CaptionerConfig:
  config = captioner_config(checkpoint)
  if config.tower is None:
    raise ValueError(f"{checkpoint}: a language model, it sees no video")
  return config if kept_ratio is None else config.with_kept_ratio(kept_ratio)
