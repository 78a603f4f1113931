"""What training changed, on clips it never saw."""

import collections
import json
import pathlib

import jax

from synpo_jax.generation import batch_captions
from synpo_jax.models import sharding
from synpo_jax.runtime import hosts
from synpo_jax.training import update
from synpo_jax.world import scene
from synpo_jax.world import scores as marking


def scores_before(ready, c, state, workdir: pathlib.Path) -> dict | None:
  """Scores before the first update, kept for a run that is continued."""
  path = workdir / "before.json"
  if ready.heldout is None:
    return None
  if int(state.step):
    return json.loads(path.read_text())
  found = scores(ready, c, state.trained)
  if hosts.is_first():
    path.write_text(json.dumps(found, indent=2) + "\n")
  return found


def scores(ready, c, trained) -> dict[str, float]:
  """Scores of the held-out pairs, and of captions written for their clips."""
  pairs = score_pairs(
    ready.steps.evaluate, trained, ready.frozen, ready.heldout, ready.mesh
  )
  if not (c.heldout.captions and c.heldout.scenes):
    return pairs
  if jax.process_count() > 1:
    hosts.say("held-out captions are written by single-process runs only")
    return pairs
  captions = write_captions(ready, c, trained, c.heldout.captions)
  return pairs | score_captions(captions, c.heldout.scenes)


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
