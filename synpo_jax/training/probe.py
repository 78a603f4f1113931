"""How well a model still speaks while it is trained: rows of eval.jsonl.

Per token, the log-prob of reference captions of held-out videos and of text
that has nothing to do with them; and how repetitive and how varied its greedy
captions are (the paper's Figures 1 and 4).
"""

import itertools
import pathlib
from collections.abc import Callable

import jax
import numpy as np

from synpo_jax.data import files
from synpo_jax.evaluation.caption_metrics import variety
from synpo_jax.evaluation.tokenizer import tokenize
from synpo_jax.runtime import hosts, journal
from synpo_jax.training import heldout, inputs, job, metrics, pair_logps
from synpo_jax.world import scene, telling


def make_probe(ready, c, workdir: pathlib.Path, start: int) -> Callable | None:
  """Returns (step, trained) -> row, which also writes it; None without rows.

  Reads what c.language names; see configs/vdc.py. Rows of steps past `start`
  are of a run that was killed before its checkpoint: they are cut off. Raises
  ValueError for videos that are not what the run began with.
  """
  if not c.every.evaluate:
    return None
  sources = {"text_logp": c.language.texts}
  sources["reference_logp"] = c.language.references or _references(c, workdir)
  data = {name: _read(c, ready, path) for name, path in sources.items() if path}
  if not data and not c.language.captions:
    raise ValueError(
      "every.evaluate is set, but language names neither references nor "
      "texts nor captions; set one, or every.evaluate=0"
    )
  _claim(ready, workdir, data, sources)
  step_fn = _scorer(ready, c)
  path = workdir / "eval.jsonl"
  if hosts.is_first():
    kept = metrics.keep_rows(path, start if start else -1)  # 0 is made again
    wanted = range(0, start + 1 if start else 0, c.every.evaluate)
    metrics.say_missing(path, kept, wanted)

  def probe(step, trained):
    row = {"step": step}
    for name, held in data.items():
      scores = heldout.score_pairs(
        step_fn, trained, ready.frozen, held, ready.mesh
      )
      row[name] = scores["chosen_logp"]
    if c.language.captions and ready.heldout and jax.process_count() == 1:
      made = heldout.write_captions(ready, c, trained, c.language.captions)
      row |= variety([tokenize(caption) for caption in made.values()])
    if hosts.is_first():
      metrics.append(path, row)
    return row

  return probe


def _claim(ready, workdir, data, sources) -> None:
  """Adds the videos of the rows to the inputs that the run goes by."""
  shown = {"reference_logp": "references", "text_logp": "texts"}
  now = {
    f"videos of language.{shown[name]}={sources[name]}": inputs.of_frames(
      held.frames
    )
    for name, held in data.items()
    if held.frames is not None
  }
  if now:
    ready.inputs.update(inputs.claim(workdir, ready.inputs | now))


def _references(c, workdir) -> str:
  """References of the synthetic world's held-out clips, where it is used."""
  if not (c.heldout.pairs and c.heldout.scenes):
    return ""
  scenes = scene.read_scenes(c.heldout.scenes)
  made = {}
  streams = (files.stream(file) for file in files.find(c.heldout.pairs))
  for _, row in itertools.chain.from_iterable(streams):
    video = pathlib.PurePosixPath(row["video"]).stem
    rng = np.random.default_rng(scenes[video].seed)
    chosen = telling.tell(scenes[video].facts, rng)
    question = row["question"] if "question" in row else c.data.question
    made[row["video"]] = {
      "video": row["video"],
      "question": question,
      "chosen": chosen,
    }
  path = workdir / "references.jsonl"
  if hosts.is_first():
    journal.rewrite(path, list(made.values()))
  return str(path)


def _read(c, ready, path):
  videos = c.heldout.videos or c.data.videos
  data = job.read_once(c, ready, captions=1, pairs=path, videos=videos)
  return ready.cached.features(data)


def _scorer(ready, c):
  scoring = pair_logps.make_scoring(**c.step, mesh=ready.mesh)
  return heldout.make_scorer(ready.model, scoring, ready.mesh)
