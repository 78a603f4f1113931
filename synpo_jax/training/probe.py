"""How well a model still speaks while it is trained: rows of eval.jsonl.

Per token, the log-prob of reference captions of held-out videos and of text
that has nothing to do with them; and how repetitive and how varied its greedy
captions are (the paper's Figures 1 and 4). The held-out pairs, and what
captioning.py says of a set of captions.
"""

import functools
import itertools
import pathlib
from collections.abc import Callable

import numpy as np

from synpo_jax.data import accounts, files
from synpo_jax.evaluation.caption_metrics import variety
from synpo_jax.evaluation.tokenizer import tokenize
from synpo_jax.runtime import hosts
from synpo_jax.training import (
  captioning,
  heldout,
  inputs,
  job,
  metrics,
  pair_logps,
  row_counts,
  samples,
)
from synpo_jax.world import scene, telling

PAIRS = ("loss", "accuracy", "margin")  # of held-out pairs, in every row
MADE = "references.jsonl"  # of the synthetic world, in the workdir


def make_probe(ready, c, workdir, start: int, log) -> Callable | None:
  """Returns (step, trained) -> row, which also writes it; None without rows.

  Reads what c.language and c.captioning name; see configs/vdc.py. log: hands
  the row, and captions where c.log.samples wants some, to the trackers. Rows of
  steps past `start` are of a run that was killed before its checkpoint: they
  are cut off. Of several processes the first one writes, and alone has all of
  a row. Raises ValueError for videos that are not what the run began with.
  """
  if not c.every.evaluate:
    return None
  measures = _measures(ready, c, workdir)
  most = max(c.language.captions, c.log.samples)
  written = most and ready.heldout
  path = workdir / "eval.jsonl"
  if hosts.is_first():
    kept = metrics.keep_rows(path, start if start else -1)  # 0 is made again
    wanted = range(0, start + 1 if start else 0, c.every.evaluate)
    metrics.say_missing(path, kept, wanted)

  def probe(step, trained):
    row, made = {"step": step}, {}
    for measure in measures:
      row |= measure(trained)
    if written:
      made = heldout.write_captions(ready, c, trained, most)
    if counted := list(made.values())[: c.language.captions]:
      row |= variety([tokenize(caption) for caption in counted])
    if not hosts.is_first():
      return row
    metrics.append(path, row)
    log.track(row)
    if shown := dict(list(made.items())[: c.log.samples]):
      log.show(step, samples.rows(shown, ready.heldout, workdir, step))
    return row

  return probe


def _measures(ready, c, workdir) -> list[Callable]:
  """What an evaluation measures without its captions: trained -> numbers."""
  found = (
    _likelihood(ready, c, workdir),
    ready.heldout and functools.partial(_pairs, ready, c),
    captioning.make(ready, c, workdir),
  )
  found = [measure for measure in found if measure]
  if not (found or c.language.captions or c.log.samples):
    raise ValueError(
      "every.evaluate is set, but there are no held-out pairs, and neither "
      "captioning nor language names anything to measure, and log.samples is "
      "0; set one, or every.evaluate=0"
    )
  return found


def _pairs(ready, c, trained) -> dict[str, float]:
  """What every evaluation says of the held-out pairs."""
  scores = heldout.of_pairs(ready, c, trained)
  return {f"heldout/{name}": scores[name] for name in PAIRS}


def _likelihood(ready, c, workdir) -> Callable | None:
  """Returns trained -> log-probs of references and texts; None without any."""
  sources = {"text_logp": c.language.texts}
  sources["reference_logp"] = c.language.references or _references(c, workdir)
  data = {name: _read(c, ready, path) for name, path in sources.items() if path}
  _claim(ready, c, workdir, data)
  if not data:
    return None
  for name, held in data.items():
    hosts.say(f"{name}: {accounts.summary(held.counts)}")
  row_counts.list_dropped(workdir, ready.data, ready.heldout, *data.values())
  step_fn = _scorer(ready, c)

  def measure(trained):
    frozen, mesh = ready.frozen, ready.mesh
    return {
      name: heldout.score_pairs(step_fn, trained, frozen, held, mesh)[
        "chosen_logp"
      ]
      for name, held in data.items()
    }

  return measure


def _claim(ready, c, workdir, data) -> None:
  """Adds the videos of the rows to the inputs that the run goes by."""
  shown = {
    "reference_logp": f"language.references={c.language.references or MADE}",
    "text_logp": f"language.texts={c.language.texts}",
  }
  now = {
    f"videos of {shown[name]}": inputs.of_frames(held.frames)
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
  path = workdir / MADE
  row_counts.share(path, list(made.values()))
  return str(path)


def _read(c, ready, path):
  videos = c.heldout.videos or c.data.videos
  data = job.read_once(c, ready, captions=1, pairs=path, videos=videos)
  return ready.features(data)


def _scorer(ready, c):
  scoring = pair_logps.make_scoring(**c.step, mesh=ready.mesh)
  return heldout.make_scorer(ready.model, scoring, ready.mesh)
