"""What training changed, on clips it never saw."""

import collections
import json
import pathlib
from typing import NamedTuple

import jax

from synpo_jax import losses
from synpo_jax.generation import batch_captions
from synpo_jax.models import sharding
from synpo_jax.runtime import hosts, journal, json_file, seal
from synpo_jax.runtime.settings import PUT_BACK
from synpo_jax.training import update
from synpo_jax.world import scene
from synpo_jax.world import scores as marking


class Scored(NamedTuple):
  """Scores by name, and the greedy captions {video: text} some are of."""

  scores: dict[str, float | None]
  captions: dict[str, str]


def score_before(ready, c, state, workdir: pathlib.Path) -> Scored | None:
  """What is so before the first update, kept for a run that is continued."""
  files = workdir / "before.json", workdir / "before_captions.json"
  if ready.heldout is None:
    return None
  if int(state.step):
    return Scored(*(json_file.read(file, PUT_BACK) for file in files))
  found = score(ready, c, state.trained)
  if hosts.is_first():
    for file, values in zip(files, found, strict=True):
      text = json.dumps(values, indent=2, ensure_ascii=False).encode()
      journal.replace(file, (seal.put(text) if values else text) + b"\n")
  return found


def of_pairs(ready, c, trained) -> dict[str, float]:
  """Scores of the held-out pairs."""
  held = ready.heldout
  if losses.make(**c.loss.to_dict()).coupled:  # pairs meet as in an update
    grouped = held.batches.grouped(c.data.accumulation)
    held = held._replace(batches=grouped)
  return score_pairs(
    ready.steps.evaluate, trained, ready.frozen, held, ready.mesh
  )


def score(ready, c, trained) -> Scored:
  """Scores of the held-out pairs, and of captions written for their clips."""
  pairs = of_pairs(ready, c, trained)
  if not (c.heldout.captions and c.heldout.scenes):
    return Scored(pairs, {})
  captions = write_captions(ready, c, trained, c.heldout.captions)
  marks = score_captions(captions, c.heldout.scenes)
  return Scored(pairs | marks, captions)


def write_captions(ready, c, trained, most: int) -> dict[str, str]:
  """Greedy captions {video: text} of the first `most` held-out videos."""
  return batch_captions.greedy(
    ready.model,
    update.merge(trained, ready.frozen),
    ready.heldout,
    most=most,
    max_new_tokens=c.heldout.max_new_tokens,
    mesh=ready.mesh,
    **ready.texts._asdict(),
  )


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


def score_captions(captions, scenes_path) -> dict[str, float | None]:
  """Exact scores of captions, {key, key_se}: docs/scores.md."""
  scenes = scene.read_scenes(scenes_path)
  return marking.summary(marking.rows(captions, scenes))
