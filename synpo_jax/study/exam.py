"""Marks of a captioner on clips that it never saw, and what they should be."""

import json
import os
import pathlib

import numpy as np
from rich.table import Table

from synpo_jax.data import prompts
from synpo_jax.generation import batch_captions
from synpo_jax.runtime import journal
from synpo_jax.training import job
from synpo_jax.weights import loading
from synpo_jax.world import folder as world
from synpo_jax.world import scores, telling
from synpo_jax.world.scene import Scene


def sit(c, run, captioner: pathlib.Path, folder: pathlib.Path) -> dict:
  """Greedy captions of c.exam.clips fresh clips, marked.

  Args:
    c: the config of the warm start: exam and gates.
    run: the config that the captioner was trained with.
    folder: for the clips, captions.jsonl and marks.json.

  Returns:
    {"scores": `scores.summary`, "kinds": `scores.by_kind`, "gates": gate ->
    {"wanted", "got"}}.
  """
  path = folder / "marks.json"
  if path.exists():
    return json.loads(path.read_text())
  scenes = _clips(folder, **c.exam)
  captions = _captions(run, captioner, folder, scenes)
  found = {
    "scores": scores.summary(scores.rows(captions, scenes)),
    "kinds": scores.by_kind(captions, scenes),
  }
  found["gates"] = {
    name: {"wanted": wanted, "got": _got(found, name)}
    for name, wanted in c.gates.items()
  }
  rows = [{"video": v, "caption": text} for v, text in captions.items()]
  journal.rewrite(folder / "captions.jsonl", rows)
  journal.replace(path, (json.dumps(found, indent=1) + "\n").encode())
  return found


def _clips(folder, *, clips, seed) -> dict[str, Scene]:
  """Renders the clips and writes a row for each, with a true caption."""
  workers = os.cpu_count() or 1
  made = world.render_world(folder, range(seed, seed + clips), workers)
  rows = [
    {
      "video": f"clips/{scene.video}.mp4",
      "question": prompts.TRAINING_QUESTION,
      "chosen": telling.tell(scene.facts, np.random.default_rng(scene.seed)),
    }
    for scene in made
  ]
  journal.rewrite(folder / "rows.jsonl", rows)
  return {scene.video: scene for scene in made}


def _captions(run, captioner, folder, scenes) -> dict[str, str]:
  run = run.copy_and_resolve_references()
  run.model.checkpoint = str(captioner)
  run.data.cache = str(folder / "cache")
  opened = mesh, model, texts = job.open_model(run)
  params = loading.load_params(model, str(captioner), mesh)
  rows = dict(pairs=str(folder / "rows.jsonl"), videos=str(folder))
  return batch_captions.greedy(
    model,
    {"params": params},
    job.read_once(run, opened, captions=1, **rows),
    most=len(scenes),
    max_new_tokens=128,
    mesh=mesh,
    **texts._asdict(),
  )


def _got(found: dict, name: str) -> float:
  """A score, or the share of a kind's claims that is right."""
  if name in found["kinds"]:
    return found["kinds"][name]["right"]
  return found["scores"][name]


def table(found: dict) -> Table:
  """Gates, and what was reached."""
  shown = Table("fresh clips", "wanted", "got", "")
  for name, gate in found["gates"].items():
    verdict = "" if gate["got"] >= gate["wanted"] else "missed"
    shown.add_row(name, f"{gate['wanted']:.2f}", f"{gate['got']:.3f}", verdict)
  return shown
