"""What a run that is done leaves, and what to type next."""

import pathlib

from synpo_jax.runtime import ending

# Of the configs of caption and evaluate: what need not be said to them.
USUAL = {
  "model.template": "aurora",
  "model.pixels.resize": "auto",
  "model.pixels.tokens": 1152,
  "model.pixels.resample": "bicubic",
  "frames.min_frames": 8,
  "frames.max_frames": 16,
  "frames.frames_per_second": 0.5,
  "frames.fixed": None,
  "frames.rounding": "down",
}


def show(c, workdir: pathlib.Path, made: dict, *, sees: bool) -> None:
  """Says where a run's things lie, and how to go on with them.

  c: its config. made: what else there is to see. sees: whether it is of a
  captioner, not of a language model.
  """
  lies = made | {
    "weights": workdir / "checkpoints",
    "every update": workdir / "metrics.jsonl",
  }
  alone = c.trainable == "lora/.*" and tuple(c.lora.where) == ("decoder",)
  form = "peft" if sees and alone else "merged"
  out = workdir / form
  run = ("workdir", workdir), ("format", form), ("out", out)
  commands = [ending.command("export", *run)]
  if sees and c.model.checkpoint:
    commands += [captions(c, workdir), scores(c, workdir)]
  elif not sees:
    told = ("model-dir", out), ("tasks", "arc_easy,hellaswag")
    commands.append(ending.command("lm_eval_model", *told))
  ending.show(lies, *commands)


def captions(c, adapter, checkpoint: str | None = None) -> str:
  """The command that captions the clips that a run learned from.

  adapter: the run's workdir, a PEFT folder, or "" with `checkpoint`, a folder
  that holds all weights.
  """
  place = adapter or checkpoint
  return ending.command(
    "caption",
    ("config", "caption"),
    ("config.videos", c.data.videos),
    ("config.output", pathlib.Path(place) / "captions.jsonl"),
    *_model(c, adapter, checkpoint),
  )


def scores(c, workdir: pathlib.Path) -> str:
  """The command that scores a run: on its own world, or on VDC."""
  benchmark, data = "eval_vdc", []
  if c.heldout.pairs and c.heldout.scenes:
    benchmark = "eval_shapes"
    data = [
      ("config.root", c.heldout.videos),
      ("config.data.scenes", c.heldout.scenes),
      ("config.data.only", c.heldout.pairs),
    ]
  config = ("config", benchmark), ("workdir", workdir / benchmark)
  return ending.command("evaluate", *config, *data, *_model(c, workdir, None))


def _model(c, adapter, checkpoint) -> list[tuple[str, object]]:
  """Flags for the captioner of a run, where they are not the usual ones."""
  base = c.model.checkpoint if checkpoint is None else checkpoint
  flags = [
    ("config.model.adapter", adapter or None),
    ("config.model.checkpoint", base),
    ("config.model.dtype", c.model.dtype),
  ]
  own = {
    "model.template": c.data.template,
    **{f"model.pixels.{key}": value for key, value in c.pixels.items()},
    **{f"frames.{key}": value for key, value in c.frames.items()},
  }
  return flags + [
    (f"config.{key}", value)
    for key, value in own.items()
    if value != USUAL[key]
  ]
