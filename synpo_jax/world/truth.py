"""The exact judge of the synthetic world: captions against scene graphs.

Every claim of a caption is right, wrong or missing; nothing is estimated and
no model is asked. Scores are on the scale of the pair pipeline: factuality
0 to 5, fluency 0 to 5, self-consistency 0 to 3.
"""

import dataclasses
import itertools
from collections.abc import Sequence

from synpo_jax.world import comparison, quiz
from synpo_jax.world.comparison import Comparison, compare
from synpo_jax.world.fluency import fluency
from synpo_jax.world.quiz import Question
from synpo_jax.world.reading import read_facts
from synpo_jax.world.scene import Facts, Scene

WRONG, MISSING = 4.0, 2.0  # what a claim costs, in right claims
NEAREST = 3.0  # points for the consistency of identical captions


@dataclasses.dataclass(frozen=True)
class Judgement:
  """Scores of one caption, and why."""

  factuality: float  # 0 to 5
  fluency: float  # 0 to 5
  faults: tuple[str, ...]
  invented: tuple[str, ...]
  missing: tuple[str, ...]
  right: int  # claims that hold
  wrong: int  # claims that do not


def judge(caption: str, scene: Scene, kind: str = "detailed") -> Judgement:
  """Scores a caption of a clip; an empty one gets nothing.

  Args:
    caption: any text.
    scene: the clip's scene graph.
    kind: what was asked for; other kinds than `detailed` need not tell all.
  """
  compared = compare(read_facts(caption), scene.facts, kind)
  fluent, broken = fluency(caption, kind)
  return Judgement(
    factuality=factuality(compared),
    fluency=fluent,
    faults=compared.wrong + broken,
    invented=compared.invented,
    missing=compared.missing,
    right=compared.right,
    wrong=len(compared.wrong),
  )


def factuality(compared: Comparison) -> float:
  """5 r / (r + 4 w + 2 m) for r right, w wrong and m missing claims."""
  lost = WRONG * len(compared.wrong) + MISSING * len(compared.missing)
  if compared.right == 0:
    return 0.0
  return round(5.0 * compared.right / (compared.right + lost), 3)


def consistency(captions: Sequence[str]) -> list[float]:
  """0 to 3 for each caption: how far its claims agree with the others'.

  The share of claims that two captions have in common (F1), averaged over
  the other captions, squared and scaled. A caption alone agrees with itself;
  one that claims nothing gets 0.
  """
  atoms = [_atoms(read_facts(caption)) for caption in captions]
  scores = []
  for i, mine in enumerate(atoms):
    others = [other for j, other in enumerate(atoms) if j != i] or [mine]
    shared = [agreement(mine, other) for other in others]
    scores.append(round(NEAREST * (sum(shared) / len(shared)) ** 2, 3))
  return scores


def agreement(a: frozenset, b: frozenset) -> float:
  """F1 of two sets of claims; 0 where either is empty."""
  return 2 * len(a & b) / (len(a) + len(b)) if a and b else 0.0


def _atoms(facts: Facts) -> frozenset:
  """Claims by name instead of number, and which event follows which."""
  atoms = set(comparison.setting(facts).items())
  for thing in facts.things:
    name = comparison.named(thing)
    fields = (thing.shape, thing.size, thing.zone)
    atoms |= {("thing", name), *((name, field) for field in fields if field)}
  events = [comparison.in_words(facts, event) for event in facts.events]
  atoms |= {("event", event) for event in events}
  atoms |= {("then", *pair) for pair in itertools.pairwise(events)}
  return frozenset(atoms)


def grade(told: Facts, scene: Scene, broken: int = 0) -> dict[str, float]:
  """Known scores of a caption made by planting faults in a true one.

  Args:
    told: what the caption says.
    scene: what is so.
    broken: how many language faults were planted.
  Returns:
    factuality, fluency, consistency (with true captions) and the pipeline's
    sum 1.1 f + h + c in `score`.
  """
  fact = factuality(compare(told, scene.facts))
  fluent = max(0.0, 5.0 - 1.5 * broken)
  shared = agreement(_atoms(told), _atoms(scene.facts))
  alike = round(NEAREST * shared**2, 3)
  return {
    "factuality": fact,
    "fluency": fluent,
    "consistency": alike,
    "score": round(1.1 * fact + fluent + alike, 3),
  }


def answer(question: Question, caption: str) -> str | None:
  """The answer that the caption alone gives, or None if it gives none."""
  return quiz.ask(question.probe, read_facts(caption))


def order_accuracy(caption: str, scene: Scene) -> float | None:
  """Share of pairs of true events told in order; None with fewer than two."""
  return compare(read_facts(caption), scene.facts).order
