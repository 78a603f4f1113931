"""Training rows for the synthetic world: captions to learn, pairs to prefer."""

from collections.abc import Mapping

import numpy as np

from synpo_jax.data import prompts
from synpo_jax.world import annotators, spoiling, telling, truth
from synpo_jax.world.chance import pick
from synpo_jax.world.scene import Facts, Scene

MIX = {"detailed": 0.75, "retrospective": 0.05, "other": 0.20}
PARTS = tuple(kind for kind in telling.KINDS if kind != "detailed")


def sft_row(scene: Scene, video: str, rng: np.random.Generator) -> dict:
  """{video, question, chosen}: a true answer to one kind of request.

  75 % detailed (most of them by the training question), 5 % a better version
  of an earlier, often faulty answer, 20 % one part of it alone.
  """
  kind = str(rng.choice(list(MIX), p=list(MIX.values())))
  if kind == "other":
    part = PARTS[int(rng.integers(len(PARTS)))]
    question = pick(rng, prompts.VDC[part])
    chosen = telling.tell(scene.facts, rng, part)
    return {"video": video, "question": question, "chosen": chosen}
  question = prompts.TRAINING_QUESTION
  if kind == "retrospective":
    question = prompts.retrospective(
      draft(scene.facts, rng), caution=bool(rng.random() < 0.5)
    )
  elif rng.random() < 0.3:
    question = pick(rng, prompts.VDC["detailed"][1:])
  if kind == "detailed" and rng.random() < 0.1:
    question = f"{question} {prompts.CAUTION}"
  chosen = telling.tell(scene.facts, rng)
  return {"video": video, "question": question, "chosen": chosen}


def mixture_row(
  scene: Scene, video: str, rng: np.random.Generator, shares: Mapping
) -> dict:
  """{video, question, chosen, style}: what one of several annotators wrote.

  All were asked the training question, so the style is not in the prompt; it
  is drawn from a stream of its own, whatever the clip shows.

  Args:
    shares: style -> its share, see `annotators.style`.
  """
  style = annotators.style(rng.spawn(1)[0], shares)
  return {
    "video": video,
    "question": prompts.TRAINING_QUESTION,
    "chosen": annotators.caption(scene, rng, style),
    "style": style,
  }


def draft(facts: Facts, rng: np.random.Generator) -> str:
  """An earlier answer: zero to three faults of any kind."""
  facts, broken = spoiling.flawed(facts, rng, int(rng.integers(4)))
  return _worded(facts, rng, broken)


def _worded(facts: Facts, rng: np.random.Generator, broken: int) -> str:
  told = telling.sentences(facts, rng)
  return " ".join(spoiling.clumsy(told, rng, broken))


def pair_row(scene: Scene, video: str, rng: np.random.Generator) -> dict:
  """{id, video, question, chosen, rejected, chosen_score, rejected_score}.

  The chosen caption is true; the rejected one carries one to three planted
  faults. Both scores are known from what was planted, on the scale of the
  pair pipeline (13.5 at most), without reading the captions.
  """
  wording = int(rng.integers(2**31))  # the same for both: only facts differ
  chosen = telling.tell(scene.facts, np.random.default_rng(wording))
  best = truth.grade(scene.facts, scene)["score"]
  for _ in range(100):
    facts, broken = spoiling.flawed(scene.facts, rng, int(rng.integers(1, 4)))
    score = truth.grade(facts, scene, broken)["score"]
    if score < best:
      return {
        "id": f"{scene.video}-{int(rng.integers(2**31)):08x}",
        "video": video,
        "question": prompts.TRAINING_QUESTION,
        "chosen": chosen,
        "rejected": _worded(facts, np.random.default_rng(wording), broken),
        "chosen_score": best,
        "rejected_score": score,
      }
  raise ValueError(f"{scene.video}: no fault found that makes it worse")
