"""Preference losses: arithmetic to hold next to the papers.

Each takes logps float32 [B, 2, R] (index 0 chosen, 1 rejected), mask bool
[B, 2, R] (True on supervised tokens) and its coefficients by keyword, and
returns one loss per pair, float32 [B]. The papers' coefficients are written
once, in configs/losses.py. Padding may hold anything. Those of NEEDS_REFERENCE
take ref_logps float32 [B, 2] too; those of COUPLED take weight float32 [B],
because a row's loss depends on the others'. sft reads index 0 alone; tpo and
gold_nll take [B, 3, R], with a reference caption at index 2. Those of LISTS
take all judged captions of a row, [B, C, R], and scores float32 [B, C];
any loss of pairs is taken over the pairs of a list by `all_pairs`.

l is a caption's summed log-prob, m its mean per token, n its token count; w
is the chosen caption, l the rejected one; s is the logistic function.
"""

import inspect
import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from jaxtyping import Array, Float

from synpo_jax.data import lists as listed
from synpo_jax.losses.coupled import aot, bco, check_together, kto
from synpo_jax.losses.lists import (
  check_gap,
  check_lists,
  over_pairs,
  plackett_luce,
  synpo_list,
)
from synpo_jax.losses.modifiers import check, lighten, pair_weights, told
from synpo_jax.losses.sequences import check_form
from synpo_jax.losses.with_reference import (
  apo_down,
  apo_zero,
  cdpo,
  discopop,
  dpo,
  dpo_shift,
  exo,
  hinge,
  hypo,
  ipo,
  nca,
  r_dpo,
  robust_dpo,
  rpo,
  sigmoid_norm,
  sppo,
)
from synpo_jax.losses.without_reference import (
  alphapo,
  cpo,
  gold_nll,
  orpo,
  rrhf,
  sft,
  simpo,
  slic_hf,
  synpo,
  synpo_log,
  tpo,
)
from synpo_jax.runtime import names

__all__ = ["check_gap", "check_together"]  # what others ask of a config

LOSSES = {
  "synpo": synpo,
  "synpo_log": synpo_log,
  "dpo": dpo,
  "cdpo": cdpo,
  "robust_dpo": robust_dpo,
  "ipo": ipo,
  "sigmoid_norm": sigmoid_norm,
  "dpo_shift": dpo_shift,
  "hypo": hypo,
  "hinge": hinge,
  "exo": exo,
  "nca": nca,
  "bco": bco,
  "sppo": sppo,
  "apo_zero": apo_zero,
  "apo_down": apo_down,
  "discopop": discopop,
  "aot": aot,
  "rpo": rpo,
  "cpo": cpo,
  "simpo": simpo,
  "alphapo": alphapo,
  "orpo": orpo,
  "slic_hf": slic_hf,
  "rrhf": rrhf,
  "r_dpo": r_dpo,
  "kto": kto,
  "sft": sft,
  "tpo": tpo,
  "gold_nll": gold_nll,
  "plackett_luce": plackett_luce,
  "synpo_list": synpo_list,
}
READS = {"sft": 1, "tpo": 3, "gold_nll": 3}  # captions, where not two


def _taking(parameter):
  takes = lambda f: parameter in inspect.signature(f).parameters  # noqa: E731
  return frozenset(name for name, f in LOSSES.items() if takes(f))


NEEDS_REFERENCE = _taking("ref_logps")
COUPLED = _taking("weight")
LISTS = _taking("scores")


def captions(name: str) -> int:
  """How many captions of a row a loss reads.

  1: the chosen alone; 2: the rejected, too; 3: the reference caption, too;
  data.lists.MOST: all that the row has.
  """
  return listed.MOST if name in LISTS else READS.get(name, 2)


class Term(NamedTuple):
  """A loss with its coefficients, and its share of a sum."""

  name: str
  weight: float
  coefficients: dict[str, float | str]

  def __call__(self, logps, mask, ref_logps, weight, scores, all_pairs):
    given = logps, mask, ref_logps, weight
    if self.name in LISTS:
      return self.weight * self._of(*given, scores=scores)
    if captions(self.name) == 2 and all_pairs is not None:
      return self.weight * over_pairs(self._of, *given, scores, all_pairs)
    return self.weight * self._of(*given)

  def _of(self, logps, mask, ref_logps, weight, **own):
    """The loss of the captions that it reads."""
    own |= self.coefficients
    read = slice(captions(self.name))
    if self.name in NEEDS_REFERENCE:
      own["ref_logps"] = None if ref_logps is None else ref_logps[:, read]
    if self.name in COUPLED:
      own["weight"] = weight
    return LOSSES[self.name](logps[:, read], mask[:, read], **own)


class Loss(NamedTuple):
  """What a run minimises: one loss, or several of the same forward pass.

  Called with log-probs [B, C, R], mask, ref_logps [B, C] or None, weight
  [B] or None and scores [B, C] where it reads lists, as the losses take them; C
  is at least `captions`, or the captions of the longest list, best first.
  all_pairs: the least gap of the pairs that lists are taken apart into. wpo:
  the most that a pair weighs, by `modifiers.closeness` [B, C]; None: all weigh
  the same. ld_alpha: what tokens weigh that make a caption longer than the
  other, against a reference, in ref_logps already; None: as any.
  """

  name: str
  terms: tuple[Term, ...]
  all_pairs: float | int | None = None
  wpo: float | int | None = None
  ld_alpha: float | int | None = None

  def __call__(
    self, logps, mask, ref_logps, weight, scores=None, closeness=None
  ) -> Float[Array, "B"]:
    given = mask, ref_logps, weight, scores, self.all_pairs
    light = lighten(logps, mask, self.ld_alpha)
    loss_B = sum(
      term(light if term.name in NEEDS_REFERENCE else logps, *given)
      for term in self.terms
    )
    if self.wpo is None:
      return loss_B
    return pair_weights(closeness, self.wpo) * loss_B

  @property
  def needs_reference(self) -> bool:
    """Whether it compares with a reference policy."""
    return any(term.name in NEEDS_REFERENCE for term in self.terms)

  @property
  def coupled(self) -> bool:
    """Whether the pairs of an update read each other."""
    return any(term.name in COUPLED for term in self.terms)

  @property
  def captions(self) -> int:
    """How many captions of a row it reads, chosen and rejected first."""
    most = max(captions(term.name) for term in self.terms)
    return most if self.all_pairs is None else listed.MOST

  @property
  def lists(self) -> bool:
    """Whether it reads all judged captions of a row, with their scores."""
    return self.captions == listed.MOST

  def __str__(self) -> str:
    how = told(self.all_pairs, self.wpo, self.ld_alpha)
    if len(self.terms) == 1 and self.terms[0].name == self.name:
      return _told(self.terms[0]) + how
    parts = (f"{term.weight:g} {_told(term)}" for term in self.terms)
    return f"{self.name}: {' + '.join(parts)}{how}"


def _told(term: Term) -> str:
  values = ", ".join(f"{key}={v}" for key, v in term.coefficients.items())
  return f"{term.name} {values}".strip()


def make(
  name: str,
  coefficients: Mapping,
  all_pairs: float | int | None = None,
  wpo: float | int | None = None,
  ld_alpha: float | int | None = None,
) -> Loss:
  """The loss of a config's `loss` section.

  coefficients: those of the loss `name`; or of a mixture, whose name is free:
  {loss: its coefficients and a `weight`}. all_pairs: least gap of the pairs of
  a list, None for rows of pairs. wpo, ld_alpha: as of Loss. Raises ValueError,
  in one line, for names that are no losses, for coefficients that are not their
  losses', and for what does not go together.
  """
  loss = Loss(name, _terms(name, coefficients), all_pairs, wpo, ld_alpha)
  read = {term.name: captions(term.name) for term in loss.terms}
  check_lists(name, read, all_pairs)
  check(loss, read)
  return loss


def _terms(name: str, coefficients: Mapping) -> tuple[Term, ...]:
  if not is_mixture(coefficients):
    check_name(name)
    check_coefficients(name, coefficients)
    check_form(name, coefficients)
    return (Term(name, 1.0, dict(coefficients)),)
  if name in LOSSES:
    raise ValueError(
      f"loss.name={name} is a loss, but loss.coefficients are a mixture's; "
      "give it a name that no loss has"
    )
  return tuple(_term(loss, own) for loss, own in coefficients.items())


def is_mixture(coefficients: Mapping) -> bool:
  """Whether they are by loss, as a mixture's are."""
  return any(isinstance(value, Mapping) for value in coefficients.values())


def _term(name: str, own: object) -> Term:
  """A part of a mixture, from its coefficients and weight."""
  check_name(name)
  weight = own.get("weight") if isinstance(own, Mapping) else None
  real = isinstance(weight, int | float) and not isinstance(weight, bool)
  if not real or not 0 <= weight < math.inf:  # NaN neither
    raise ValueError(
      f"loss.coefficients.{name}.weight is {weight!r}: a mixture wants a "
      "number of at least 0 with each of its losses"
    )
  own = {key: value for key, value in own.items() if key != "weight"}
  check_coefficients(name, own)
  check_form(name, own)
  return Term(name, float(weight), own)


def check_name(name: str) -> None:
  """Raises ValueError, one line with the nearest names, for an unknown loss."""
  names.refuse_unknown("loss", name, LOSSES)


def check_coefficients(name: str, given: Collection[str]) -> None:
  """Raises ValueError, in one line, unless they are those that a loss takes.

  One with a default may be left out: the form of an NLL.
  """
  parameters = inspect.signature(LOSSES[name]).parameters.values()
  own = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
  own = [p for p in own if p.name not in ("ref_logps", "weight", "scores")]
  takes = {p.name for p in own}
  needed = {p.name for p in own if p.default is p.empty}
  if not needed <= {*given} <= takes:
    raise ValueError(
      f"loss.coefficients: {name} takes {', '.join(sorted(takes)) or 'none'}, "
      f"given are {', '.join(sorted(given)) or 'none'}; --config=vdc:loss="
      f"{name} has the paper's"
    )
