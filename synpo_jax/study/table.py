"""From the study's rows to the tables in results/README.md."""

import os
import pathlib
import re

from synpo_jax.study import pooling, verdicts

START, END = "<!-- claims: begin -->", "<!-- claims: end -->"
# Column -> (heading, factor, digits).
COLUMNS = {
  "f1": ("F1 of claims %", 100, 1),
  "f1_gain": ("gain over base", 100, 1),
  "precision": ("precision %", 100, 1),
  "hallucination": ("hallucination %", 100, 1),
  "omissions": ("omissions %", 100, 1),
  "qa_accuracy": ("questions right %", 100, 1),
  "words": ("words", 1, 1),
  "fluency": ("fluency", 1, 2),
  "ranking_accuracy": ("ranking accuracy %", 100, 1),
  "chosen_logp_drift": ("drift of chosen", 1, 3),
  "rejected_logp_drift": ("drift of rejected", 1, 3),
  "language_logp_drift": ("drift of true captions", 1, 3),
  "chosen_reward_grad_norm": ("norm of chosen reward, 1e-6", 1e6, 2),
  "rejected_reward_grad_norm": ("norm of rejected reward, 1e-6", 1e6, 2),
  "bell": ("bell", 1, 2),
  "half_gain_step": ("updates to half the gain", 1, 0),
}


def markdown(rows: list[dict], regime: str) -> str:
  """A regime's table: base, controls, methods at their rates, second round."""
  heads = ["method", "lr", *(head for head, _, _ in COLUMNS.values())]
  lines = [_line(heads), "|---|" + "---:|" * (len(heads) - 1)]
  base = pooling.select(rows, regime, "base")["base"]
  for kind, words in KINDS.items():
    for method, own in pooling.select(rows, regime, kind).items():
      cells = [words.format(method), _rate(rows, own[0])]
      cells += [_cell(own, base, name) for name in COLUMNS]
      lines.append(_line(cells))
  return "\n".join(lines)


KINDS = {
  "base": "before training",
  "control": "control: {}",
  "cell": "{}",
  "second": "{}, second round",
}


def _line(cells) -> str:
  return f"| {' | '.join(cells)} |"


def _rate(rows, row) -> str:
  """The rate; with a star where it is the first or last one tried."""
  if row["lr"] is None:
    return "-"
  loss = row["method"].split()[0]
  tried = pooling.select(rows, row["regime"], "rate").get(loss, [])
  rates = [one["lr"] for one in tried]
  star = "*" if rates and row["lr"] in (min(rates), max(rates)) else ""
  return f"{row['lr']:g}{star}"


def _cell(rows, base, name) -> str:
  _, factor, digits = COLUMNS[name]
  found = pooling.over_seeds(rows, name)
  if name == "f1_gain" and rows[0]["kind"] != "base":
    found = pooling.f1_difference(rows, base)
  if found is None:
    return "-"
  words = f"{factor * found.value:.{digits}f}"
  if found.error is None:
    return words
  return f"{words} ± {factor * found.error:.{digits}f}"


def timing(rows: list[dict]) -> str:
  """The table of what an update costs."""
  lines = [
    _line(["method", "s per update", "quartiles", "planned peak, MB"]),
    "|---|---:|---:|---:|",
  ]
  for row in rows:
    low, high = row["spread"]
    peak = row["peak_bytes"]
    lines.append(
      _line(
        [
          row["method"],
          f"{row['seconds_per_step']:.3f}",
          f"{low:.3f} to {high:.3f}",
          "-" if peak is None else f"{peak / 1e6:.0f}",
        ]
      )
    )
  return "\n".join(lines)


def into(path: pathlib.Path, found: dict, pictures: list[pathlib.Path]) -> None:
  """Puts verdicts, figures and tables between their two marks in a file.

  Raises ValueError where the marks are missing.
  """
  text = path.read_text("utf-8")
  pattern = re.compile(f"{START}.*?{END}", re.DOTALL)
  if not pattern.search(text):
    raise ValueError(f"{path}: no lines {START} and {END} to put the table in")
  block = "\n\n".join([START, *_parts(path, found, pictures), END])
  path.write_text(pattern.sub(lambda _: block, text), "utf-8")


def _parts(path, found, pictures) -> list[str]:
  parts = ["\n".join(f"- {line}" for line in verdicts.lines(found))]
  for picture in pictures:
    target = os.path.relpath(picture, path.parent)
    parts.append(f"![{picture.stem}]({target})")
  for regime in dict.fromkeys(row["regime"] for row in found["rows"]):
    parts += [f"### Regime: {regime}", markdown(found["rows"], regime)]
  parts += [_note(found["rows"]), "### What an update costs"]
  return [*parts, timing(found["timing"])]


def _note(rows) -> str:
  seeds = sorted({row["seed"] for row in rows if row["kind"] == "cell"})
  means = (
    f"Mean ± standard error over seeds {', '.join(map(str, seeds))}; of the "
    "gain, over clips, each compared with itself, and seeds together."
    if len(seeds) > 1
    else f"One seed, {seeds[0]}; the gain ± its standard error over clips, "
    "each compared with itself."
  )
  return (
    f"{means} A star: "
    "the rate has a neighbour on one side only. Drifts are of log-probs per "
    "token, of held-out pairs and of true captions; norms are means over "
    "training; the bell is the slope of SynPO's loss at a pair's gap, 1 where "
    "the gap is none. Updates to half the gain are of the first seed, looked "
    "at every few updates."
  )
