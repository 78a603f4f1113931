"""Who writes the captions of an evaluation: a checkpoint, or a served model."""

import sys
from collections.abc import Callable
from pathlib import Path

from synpo_jax.generation import served, serving, shots
from synpo_jax.generation.serving import Serving
from synpo_jax.runtime import journal
from synpo_jax.weights import fingerprint

ANSWERS = "captioner.jsonl"  # of a served model, in the workdir


def asked_elsewhere(c) -> Serving | None:
  """How model.endpoint is asked; None where the captions are not its.

  Raises ValueError, in one line, for what it cannot be asked.
  """
  if c.predictions or "endpoint" not in c.model:
    return None
  ask = shots.Ask(seed=c.seed, question="", **c.captions)
  return serving.of_config(c, ask, "captions")


def recipe(c) -> dict:
  """What a recipe says of the captioner."""
  if how := asked_elsewhere(c):
    return {"model": serving.identity(c.model.endpoint, how)}
  model = c.model.to_dict()
  model.pop("endpoint", None)
  adapter = model["adapter"] if "adapter" in model else ""
  content = fingerprint.captioner(model["checkpoint"], adapter)
  return {"model": model, "model_content": content}


def opener(c, workdir: Path, rows: Path, open_writer: Callable) -> Callable:
  """A function that loads the captioner, or connects to it.

  rows: of the captions so far. open_writer: called with c.placing and c.model
  for a captioner here.
  """
  how = asked_elsewhere(c)
  if how is None:
    return lambda: open_writer(c.placing.to_dict(), **c.model.to_dict())
  by = serving.fingerprint(journal.read(rows).values())
  answers = workdir / ANSWERS
  return lambda: served.Writer(c.model.endpoint, how, answers, _tell, by)


def _tell(_, why: str) -> None:
  print(f"failed: {why}", file=sys.stderr, flush=True)
