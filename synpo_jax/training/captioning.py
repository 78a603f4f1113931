"""A held-out captioning set, scored while a run trains."""

import pathlib
from collections.abc import Callable

from synpo_jax.evaluation import (
  caption_metrics,
  judge_prompts,
  known_items,
  repeats,
  vatex,
  vdd,
)
from synpo_jax.evaluation.tokenizer import tokenize
from synpo_jax.generation import batch_captions
from synpo_jax.judging import judge, trial
from synpo_jax.runtime import hosts
from synpo_jax.runtime.terminal import in_short
from synpo_jax.training import inputs, job, row_counts, update

JUDGED = dict(max_tokens=64)  # of a verdict, as configs/eval_vdd.py has it


def make(ready, c, workdir: pathlib.Path) -> Callable | None:
  """Returns trained -> {"heldout/cider_d", …}; None without a set.

  Captions are greedy. CIDEr-D and ROUGE-L are times 100, as papers print them;
  with captioning.judge there is heldout/detail, 0 to 5, or None where the judge
  gave no verdict. Several processes share the captions; the first one scores
  them, and the others return nothing. Raises ValueError for videos that are
  not there or cannot be read, and for a judge that fails its trial.
  """
  if not c.captioning.references:
    return None
  references = vatex.read_references(c.captioning.references)
  references = dict(list(references.items())[: c.captioning.most or None])
  held = _videos(ready, c, workdir, references)
  if c.captioning.judge and hosts.is_first():
    known = known_items.of_vdd(judge_prompts.OURS_ALONE, **JUDGED)
    trial.hold_early(known, workdir, key="", **c.judge.to_dict())

  def measure(trained):
    captions = batch_captions.greedy(
      ready.model,
      update.merge(trained, ready.frozen),
      held,
      most=len(references),
      max_new_tokens=c.captioning.max_new_tokens,
      mesh=ready.mesh,
      **ready.texts._asdict(),
    )
    if not hosts.is_first():
      return {}
    found = score(references, captions)
    if c.captioning.judge:
      cache = workdir / "judge.jsonl"
      asked = c.data.question, c.judge.to_dict()
      found["heldout/detail"] = detail(references, captions, cache, *asked)
    return found

  return measure


def _videos(ready, c, workdir, references):
  """pipeline.Data of the set's videos, each asked what the run asks."""
  path = workdir / "captioning.jsonl"
  rows = ({"video": v, "chosen": told[0]} for v, told in references.items())
  row_counts.share(path, list(rows))
  videos = c.captioning.videos or c.heldout.videos or c.data.videos
  held = job.read_once(c, ready, captions=1, pairs=str(path), videos=videos)
  lost = references.keys() - {pair.video for pair in held.pairs}
  if lost:
    raise ValueError(
      f"{c.captioning.references}: {len(lost)} of {len(references)} videos "
      f"cannot be used, as {sorted(lost)[0]}, in captioning.videos={videos}; "
      "put them there, or take their rows out"
    )
  if held.frames is not None:
    name = f"videos of captioning.references={c.captioning.references}"
    now = ready.inputs | {name: inputs.of_frames(held.frames)}
    ready.inputs.update(inputs.claim(workdir, now))
  return ready.features(held)


def score(
  references: dict[str, list[str]], captions: dict[str, str]
) -> dict[str, float | None]:
  """heldout/cider_d and heldout/rouge_l, times 100, of one caption a video."""
  ours = [tokenize(captions[video]) for video in references]
  gold = [[tokenize(t) for t in texts] for texts in references.values()]
  return {
    "heldout/cider_d": 100 * caption_metrics.cider_d(ours, gold)[0],
    "heldout/rouge_l": 100 * caption_metrics.rouge_l(ours, gold)[0],
  }


def detail(references, captions, cache, question, settings) -> float | None:
  """Mean of VDD's verdicts on detail, 0 to 5, beside each first reference.

  None, which is said, where the judge cannot be had, fails its trial or misses
  a verdict: a mean over other videos would not compare.
  """
  rows = [vdd.Reference(v, question, t[0]) for v, t in references.items()]
  try:
    found = _judged(rows, captions, cache, settings | {"key": ""})
  except (ValueError, OSError) as error:
    hosts.say(f"heldout/detail: no verdicts now ({in_short(error)})")
    return None
  if found["failed"]:
    hosts.say(f"heldout/detail: {found['failed']:g} verdicts missing; left out")
    return None
  return found["score"]


def _judged(rows, captions, cache, section) -> dict:
  """VDD's summary, once the judge has passed its trial."""
  prompts = judge_prompts.OURS_ALONE
  trial.hold(known_items.of_vdd(prompts, **JUDGED), cache.parent, **section)
  aside, settings = judge.part(section)
  rounds = []
  for repeat in range(aside.repeats):

    def ask(requests, on_answer, repeat=repeat):
      asked = (request._replace(repeat=repeat) for request in requests)
      return judge.ask(asked, on_answer, cache=cache, **settings)

    judged, _ = vdd.judge_captions(rows, captions, prompts, ask, **JUDGED)
    rounds.append(repeats.Scored(judged, vdd.summarise(judged)))
  return repeats.combine(rounds).summary
