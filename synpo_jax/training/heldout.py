"""What training changed, on clips it never saw."""

import collections

import jax
import numpy as np
from rich.table import Table

from synpo_jax.models import sharding
from synpo_jax.training import update
from synpo_jax.world import scene, truth

SHOWN = {  # metric -> its title in the table
  "accuracy": "ranking accuracy",
  "chosen_logp": "log-prob per token, chosen",
  "rejected_logp": "log-prob per token, rejected",
  "margin": "margin of geometric means",
  "factuality": "factuality of greedy captions (0-5)",
  "fluency": "fluency of greedy captions (0-5)",
  "qa_accuracy": "questions answered right",
}


def make_scorer(model, scoring, mesh):
  """The jitted eval step of log-probs alone, for pairs or single captions."""
  objective = update.make_objective(model, scoring, name="sft", coefficients={})
  return jax.jit(
    update.make_eval_step(objective), out_shardings=sharding.replicated(mesh)
  )


def score_pairs(eval_step, trained, frozen, data, mesh) -> dict[str, float]:
  """Means of `update.pair_sums` over all pairs of `data`."""
  total = collections.Counter()
  for index in range(len(data.batches)):
    batch = sharding.put_batch(data.batches[index], mesh)
    total.update(jax.device_get(eval_step(trained, frozen, batch)))
  means = update.means(total)
  return {name: float(value) for name, value in means.items()}


def score_captions(captions, scenes_path) -> dict[str, float]:
  """Mean exact scores of captions against their clips' scene graphs."""
  scenes = scene.read_scenes(scenes_path)
  rows = []
  for video, caption in captions.items():
    told = scenes[video.rpartition("/")[2].removesuffix(".mp4")]
    judged = truth.judge(caption, told)
    rows.append(
      {
        "factuality": judged.factuality,
        "fluency": judged.fluency,
        "qa_accuracy": np.mean(list(truth.qa_accuracy(caption, told).values())),
      }
    )
  return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def table(before: dict, after: dict) -> Table:
  """Before and after, side by side."""
  shown = Table("held-out clips", "before", "after")
  for name, title in SHOWN.items():
    if name in before:
      values = (f"{scores[name]:.3f}" for scores in (before, after))
      shown.add_row(title, *values)
  return shown
