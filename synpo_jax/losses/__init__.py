"""Preference losses: arithmetic to hold next to the papers.

Each takes logps float32 [B, 2, R] (index 0 chosen, 1 rejected), mask bool
[B, 2, R] (True on supervised tokens) and its coefficients by keyword, and
returns one loss per pair, float32 [B]. The papers' coefficients are written
once, in configs/vdc.py. Padding may hold anything. Those of
NEEDS_REFERENCE take ref_logps float32 [B, 2] too; those of COUPLED take
weight float32 [B], because a row's loss depends on the others'.

l is a caption's summed log-prob, m its mean per token, n its token count; w
is the chosen caption, l the rejected one; s is the logistic function.
"""

import inspect
from collections.abc import Collection

from synpo_jax.losses.coupled import aot, bco, kto
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
  orpo,
  rrhf,
  sft,
  simpo,
  slic_hf,
  synpo,
  synpo_log,
)
from synpo_jax.runtime import names

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
}


def _taking(parameter):
  takes = lambda f: parameter in inspect.signature(f).parameters  # noqa: E731
  return frozenset(name for name, f in LOSSES.items() if takes(f))


NEEDS_REFERENCE = _taking("ref_logps")
COUPLED = _taking("weight")


def captions(name: str) -> int:
  """How many captions of a pair a loss reads: both, or the chosen alone."""
  return 1 if name == "sft" else 2


def check_name(name: str) -> None:
  """Raises ValueError, one line with the nearest names, for an unknown loss."""
  names.refuse_unknown("loss", name, LOSSES)


def check_together(name: str, pairs: int, where: str) -> None:
  """Raises ValueError where a loss of several pairs would read one alone.

  pairs: the fewest that meet in an update. where: what they were counted from.
  """
  if name in COUPLED and pairs < 2:
    raise ValueError(
      f"loss.name={name} compares the pairs of an update with each other, and "
      f"{where}; change data.batch_size or data.accumulation (an update holds "
      "their product), or choose another loss"
    )


def check_coefficients(name: str, given: Collection[str]) -> None:
  """Raises ValueError, in one line, unless they are those that a loss takes."""
  parameters = inspect.signature(LOSSES[name]).parameters.values()
  takes = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
  takes -= {"ref_logps", "weight"}
  if takes != {*given}:
    raise ValueError(
      f"loss.coefficients: {name} takes {', '.join(sorted(takes)) or 'none'}, "
      f"given are {', '.join(sorted(given)) or 'none'}; --config=vdc:loss="
      f"{name} has the paper's"
    )
