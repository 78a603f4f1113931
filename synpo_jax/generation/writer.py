"""Opens a captioner: a checkpoint, perhaps an adapter, in place on a mesh."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

from synpo_jax.data import text, video
from synpo_jax.generation import captioning, prompt_batches
from synpo_jax.models import attention as attentions
from synpo_jax.models import sharding
from synpo_jax.models.captioner import Captioner, shapes
from synpo_jax.runtime import workdir
from synpo_jax.weights import adapters, folders, learned
from synpo_jax.weights.config_reading import captioner_config

DTYPES = ("float32", "bfloat16", "float16")


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
  _check(checkpoint, dtype)
  model, variables, places = _load(
    checkpoint, adapter, kept_ratio, jnp.dtype(dtype), attention, mesh
  )
  tokenizer = text.load_tokenizer(words or checkpoint)
  ends = text.eos_ids(Path(checkpoint), tokenizer)
  end = text.end_id(tokenizer, template)
  captioner = captioning.Loaded(
    model,
    variables,
    prompt_batches.Format(tokenizer, template, model.config, prefix_buckets),
    (end, *(i for i in ends if i not in (end, None))),
    places,
    batch_size,
    frame_buckets,
  )
  side = model.config.tower.image_size
  prepare = partial(
    video.preprocess, how=video.Preprocess((side, side), **pixels)
  )
  return prepare, partial(captioning.write, captioner)


def _check(checkpoint, dtype):
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
  if dtype not in DTYPES:
    raise ValueError(
      f"model.dtype={dtype!r}: choose one of {', '.join(DTYPES)}"
    )


def _load(checkpoint, adapter, kept_ratio, dtype, attention, mesh):
  """(model, variables, mesh), every weight in its place."""
  places = sharding.make_mesh(**mesh, devices=jax.local_devices())
  config = captioner_config(checkpoint)
  if config.tower is None:
    raise ValueError(f"{checkpoint}: a language model, it sees no video")
  if kept_ratio is not None:
    config = config.with_kept_ratio(kept_ratio)
  backend = attentions.on_mesh(attention, places, config.decoder, dtype)
  model = Captioner(config, dtype=dtype, attention=backend)
  tree = {"params": shapes(model)["params"]}
  where = sharding.tree_shardings(tree, places)["params"]
  params = folders.load(checkpoint, config, dtype=dtype, shardings=where)
  if adapter:
    params = learned.apply(params, adapters.read(adapter, config), where)
  return model, {"params": params}, places
