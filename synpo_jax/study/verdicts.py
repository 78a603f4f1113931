"""What the study's rows say of each of the paper's claims."""

from synpo_jax.study import pooling
from synpo_jax.study.pooling import Figure

WORDS = {1: "holds here", -1: "does not hold here", 0: "cannot be seen here"}


def lines(found: dict) -> list[str]:
  """A sentence for each claim and regime; found: results/claims.json."""
  told = []
  rows = found["rows"]
  for regime in dict.fromkeys(row["regime"] for row in rows):
    cells = pooling.select(rows, regime, "cell")
    if "synpo" not in cells:
      continue
    told.append(beside_controls(rows, regime, cells["synpo"]))
    told += [
      f"{regime}: {claim(cells)}"
      for claim in (above_kin, negatives, language)
      if "dpo" in cells
    ]
    told += too_far(pooling.select(rows, regime, "collapse"), regime)
  return told + cheaper(found["timing"])


def beside_controls(rows, regime: str, synpo) -> str:
  """SynPO's gain, and what the best control gives."""
  base = pooling.select(rows, regime, "base")["base"]
  gains = {
    name: pooling.f1_difference(own, base)
    for name, own in pooling.select(rows, regime, "control").items()
  }
  best = max(gains, key=lambda name: gains[name].value)
  gain = pooling.f1_difference(synpo, base)
  return (
    f"{regime}: SynPO changes F1 of claims by {_told(gain)}; the best control, "
    f"{best}, by {_told(gains[best])}"
  )


def above_kin(cells) -> str:
  """Whether SynPO's F1 is above that of every other loss."""
  over = {
    name: pooling.f1_difference(cells["synpo"], own)
    for name, own in cells.items()
    if not name.startswith("synpo")
  }
  signs = [one.beyond() for one in over.values()]
  sign = -1 if -1 in signs else min(signs)
  told = ", ".join(f"{name} {_told(one)}" for name, one in over.items())
  return (
    f"SynPO above DPO and kin {WORDS[sign]}: F1 of SynPO less that of {told}"
  )


def negatives(cells) -> str:
  """Whether chosen captions stay likely, as the rejected fall."""
  synpo, dpo = cells["synpo"], cells["dpo"]
  chosen, rejected = (
    pooling.over_seeds(synpo, f"{side}_logp_drift")
    for side in ("chosen", "rejected")
  )
  less = pooling.difference(synpo, dpo, "chosen_logp_drift")
  sign = -1 if chosen.beyond() < 0 else max(0, less.beyond())
  ratio = _ratio(synpo)
  return (
    f"negatives do not dominate: {WORDS[sign]}: log-prob of chosen captions "
    f"{_signed(chosen)}, of rejected {_signed(rejected)}; chosen less DPO's "
    f"{_signed(less)}; gradients of the rewards, rejected over "
    f"chosen: {ratio:.2f} (DPO {_ratio(dpo):.2f})"
  )


def too_far(runs, regime: str) -> list[str]:
  """Where the long runs ended, on validation clips; one seed each."""
  return [
    f"{regime}: {method} trained for {row['seen'][-1]['step']} updates at "
    f"{row['lr']:g} ends with F1 {100 * row['f1']:.1f}, fluency "
    f"{row['fluency']:.2f}, log-prob of true captions "
    f"{row['language_logp']:.2f}"
    for method, (row,) in runs.items()
  ]


def _ratio(rows) -> float:
  up, down = (
    pooling.over_seeds(rows, f"{side}_reward_grad_norm").value
    for side in ("rejected", "chosen")
  )
  return up / down


def language(cells) -> str:
  """Whether true captions stay as likely, more so than with DPO."""
  synpo, dpo = cells["synpo"], cells["dpo"]
  drift = pooling.over_seeds(synpo, "language_logp_drift")
  less = pooling.difference(synpo, dpo, "language_logp_drift")
  fluency = pooling.difference(synpo, dpo, "fluency")
  return (
    f"language kept: {WORDS[less.beyond()]}: log-prob of true captions "
    f"{_signed(drift)}, less DPO's {_signed(less)}; fluency less DPO's "
    f"{_signed(fluency)}"
  )


def cheaper(timing: list[dict]) -> list[str]:
  """Whether an update takes a fifth less than DPO's."""
  seconds = {row["method"]: row["seconds_per_step"] for row in timing}
  if not {"synpo", "dpo"} <= seconds.keys():
    return []
  ratio = seconds["synpo"] / seconds["dpo"]
  sign = 1 if ratio <= 0.8 else -1
  return [
    f"20 % cheaper than DPO: {WORDS[sign]}: {seconds['synpo']:.3f} s an update "
    f"against {seconds['dpo']:.3f}, {ratio:.2f} of it; DPO's reference is "
    "computed in the update"
  ]


def _told(one: Figure) -> str:
  error = "" if one.error is None else f" ± {100 * one.error:.1f}"
  return f"{100 * one.value:+.1f}{error}"


def _signed(one: Figure) -> str:
  error = "" if one.error is None else f" ± {one.error:.3f}"
  return f"{one.value:+.3f}{error}"
