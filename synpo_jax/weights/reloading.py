"""What was exported, read again by Transformers and PEFT, against our logits.

A made-up prompt, with frames where the model sees, goes through the base and
through the export, here and there, in float32. Adapters can load elsewhere and
change nothing, where their tensors are named for another wrapper of the model.
"""

import functools
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.models import captioner, sharding
from synpo_jax.models.config import CaptionerConfig
from synpo_jax.weights import loading, tensor_names

TOLERANCE = 1e-4  # between ours and theirs, of the largest logit
WORDS = 8  # tokens at the end of the prompt whose logits are compared
NEEDED = ("torch", "transformers", "peft")


class Logits(NamedTuple):
  """Of the base and of what was learned on it, float32."""

  before: Float[np.ndarray, "T V"]
  after: Float[np.ndarray, "T V"]


class Prompt(NamedTuple):
  """tokens: [T], IMAGE_TOKEN for a visual embedding.

  frames: uint8 [F, Y, X, 3], or None where the model reads text alone.
  """

  tokens: np.ndarray
  frames: np.ndarray | None


def require() -> None:
  """Raises ValueError, before any work, where the comparison cannot be made."""
  for name in NEEDED:
    try:
      importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      raise ValueError(
        f"--check loads the export with Transformers and PEFT, and {name} is "
        "not installed: pip install 'synpo_jax[check]'"
      ) from None


def check(out, form: str, base, workdir, section: dict) -> str:
  """Compares an export with its run; returns one line that says how near.

  out: the folder that was written. base: the checkpoint's folder, safetensors
  under torch's names. section: the run's `model` section. Takes memory for two
  copies of the model in float32.

  Raises ValueError, one line: it does not load there, is without effect, or
  differs.
  """
  section = {k: v for k, v in section.items() if k != "tokenizer"}
  section |= dict(checkpoint=str(base), base="float", dtype="float32")
  section |= dict(attention="xla", remat="none", adapter={"rank": 0})
  host = jax.local_devices(backend="cpu")[:1]
  mesh = sharding.make_mesh(data=1, fsdp=1, model=1, devices=host)
  model = loading.make_model(**section, mesh=mesh)
  prompt = made_up(model.config)
  with jax.default_device(host[0]):
    params = loading.load_params(model, section["checkpoint"], mesh)
    before, saw = _compute(model, params, prompt)
    params = loading.merge_adapter(params, workdir, model, mesh)
    after, sees = _compute(model, params, prompt)
  del params
  held = _arrays(model.config, prompt, saw, sees)
  said = dict(form=form, base=str(base), out=str(out), family=None)
  if model.config.connector:
    said["family"] = model.config.connector.family
    said["seconds_per_step"] = model.config.connector.seconds_per_step
  theirs = ask(said, held)
  return compare(out, form, Logits(before, after), theirs)


def made_up(config: CaptionerConfig) -> Prompt:
  """A short prompt of words at random, two steps of a video in their midst."""
  rng = np.random.default_rng(0)
  ids = dict(config.connector.ids) if config.connector else {}
  words = [i for i in range(config.decoder.vocab) if i not in ids.values()]
  words = rng.choice(words, size=4 + WORDS).tolist()
  if config.tower is None:
    return Prompt(np.array(words), None)
  count, side = 2 * config.frames_per_step, config.tower.image_size
  frames = rng.integers(0, 256, (count, side, side, 3), np.uint8)
  start = []
  if config.decoder.mrope_sections:  # Transformers finds videos behind it
    start = [ids.get("vision_start_token_id", 151652)]
  video = [start + [IMAGE_TOKEN] * n for n in config.blocks(count)]
  return Prompt(np.array([*words[:4], *sum(video, []), *words[4:]]), frames)


def _compute(model, params, prompt: Prompt):
  """Logits [WORDS, V] of the prompt's end, and the embeddings of its video."""
  frames = None if prompt.frames is None else jnp.asarray(prompt.frames[None])
  tokens = jnp.asarray(prompt.tokens[None], jnp.int32)
  logits, visual = _apply(model, {"params": params}, frames, tokens)
  return np.asarray(logits), None if visual is None else np.asarray(visual[0])


@functools.partial(jax.jit, static_argnums=0)
def _apply(model, variables, frames, tokens):
  visual = captioner.visual_embeddings(model, variables, frames, None)
  return model.apply(variables, frames, tokens)[0, -WORDS:], visual


def _arrays(config, prompt: Prompt, before, after) -> dict[str, np.ndarray]:
  """What `reload_worker.logits` takes."""
  is_video = prompt.tokens == IMAGE_TOKEN
  held = {"tokens": np.where(is_video, -1, prompt.tokens)}
  if prompt.frames is None:
    return held
  if config.connector.family in tensor_names.UNWRAPPED:
    return held | {"before": before, "after": after}
  tower = config.tower
  frames = jnp.asarray(prompt.frames)
  pixels = captioner.normalise(frames, tower.mean, tower.std)
  return held | {"pixels": np.asarray(pixels)}


def ask(said: dict, held: dict[str, np.ndarray]) -> Logits:
  """What the worker answers; ValueError with its last line where it fails."""
  script = pathlib.Path(__file__).with_name("reload_worker.py")
  with tempfile.TemporaryDirectory(prefix="synpo-") as temp:
    request, arrays, answer = (
      pathlib.Path(temp, name) for name in ("said.json", "held.npz", "got.npz")
    )
    request.write_text(json.dumps(said))
    np.savez(arrays, **held)
    done = subprocess.run(
      [sys.executable, "-P", str(script), *map(str, (request, arrays, answer))],
      capture_output=True,
      text=True,
      env=os.environ | {"USE_TORCH": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    if done.returncode:
      lines = done.stderr.strip().splitlines() or [f"ended {done.returncode}"]
      raise ValueError(
        f"{said['out']}: Transformers and PEFT cannot use it: {lines[-1]}"
      )
    with np.load(answer) as got:
      return Logits(got["before"], got["after"])


def compare(out, form: str, ours: Logits, theirs: Logits) -> str:
  """How near they are, in a line.

  Raises ValueError where the base differs beyond TOLERANCE, where the export
  changes nothing, or where it differs: an adapter beyond TOLERANCE, merged
  weights, which are rounded to the checkpoint's dtype, by half of what was
  learned.
  """
  largest = float(np.abs(ours.before).max())
  noise = TOLERANCE * largest
  effect = float(np.abs(ours.after - ours.before).max())
  there = float(np.abs(theirs.after - theirs.before).max())
  off_base, off = (
    float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)
  )
  allowed = noise if form == "peft" else max(noise, effect / 2)
  told = f"logits up to {largest:.3g}"
  if not off_base <= noise:
    raise ValueError(
      f"{out}: the base's {told} differ by {off_base:.2g} in Transformers, "
      f"more than {noise:.2g}, so the export cannot be compared"
    )
  if not effect > 2 * noise:
    raise ValueError(
      f"{out}: is without effect here already: {told} change by {effect:.2g}, "
      f"which rounding does ({noise:.2g}); train for longer"
    )
  if not there > noise:
    raise ValueError(
      f"{out}: is without effect in Transformers: {told} change by "
      f"{there:.2g}, here by {effect:.2g}"
    )
  if not off <= allowed:
    raise ValueError(
      f"{out}: differs in Transformers: {told} by {off:.2g}, more than "
      f"{allowed:.2g}; what was learned changes them by {effect:.2g}"
    )
  return (
    f"checked with Transformers: {told} change by {there:.2g} and differ from "
    f"the run's by {off:.2g}"
  )
