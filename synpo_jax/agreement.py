"""Entry: how far two judges agree on the same captions.

python -m synpo_jax.agreement --a=runs/vdd --b=runs/vdd-other-judge

Each is a workdir of `evaluate` or `make_pairs`, or its items.jsonl or
judgements.jsonl. Shown, and with --json=FILE written, are Cohen's kappa (equal
answers, and weighted by the distance of scores), Spearman's and Kendall's rank
correlations, each with a 95 % interval of a bootstrap over videos.
"""

import json

from absl import flags
from rich import console, table

from synpo_jax.evaluation import agreement
from synpo_jax.runtime import buckets, journal
from synpo_jax.runtime.flags import command

A = flags.DEFINE_string("a", None, "Results by one judge.")
B = flags.DEFINE_string("b", None, "Results by the other, of the same items.")
RESAMPLES = flags.DEFINE_integer(
  "resamples", 1000, "Bootstrap samples for the intervals.", lower_bound=1
)
JSON = flags.DEFINE_string("json", None, "File for the figures.")


def run(a: str, b: str, resamples: int) -> dict:
  """{"only_a", "only_b", "figures": {figure: agreement.measure of it}}.

  only_…: items that one of the two alone has. Raises ValueError or OSError in
  one line for files that do not belong together.
  """
  rows = {path: agreement.read_judgements(path) for path in (a, b)}
  try:
    matched = agreement.match(rows[a], rows[b])
  except ValueError as error:
    raise ValueError(f"{a} and {b}: {error}") from None
  return {
    "only_a": len(rows[a].keys() - rows[b].keys()),
    "only_b": len(rows[b].keys() - rows[a].keys()),
    "figures": {
      name: agreement.measure(pair, resamples=resamples, seed=0)
      for name, pair in matched.items()
    },
  }


def show(found: dict, out: console.Console) -> None:
  """A column for each figure that was judged."""
  figures = found["figures"]
  shown = table.Table("", *figures)
  names = dict.fromkeys(name for figure in figures.values() for name in figure)
  for name in names:
    words = [_words(figure.get(name)) for figure in figures.values()]
    shown.add_row(name.replace("_", " "), *words)
  out.print(shown)
  if found["only_a"] or found["only_b"]:
    out.print(f"items of one alone: {found['only_a']} a, {found['only_b']} b")


def _words(value) -> str:
  if value is None:
    return "-"
  if isinstance(value, dict):
    bounds = (f"{value[name]:.3f}" for name in ("low", "high"))
    known = value["low"] is not None
    within = f" ({' to '.join(bounds)})" if known else ""
    return f"{value['value']:.3f}{within}"
  return f"{value:.3f}" if isinstance(value, float) else str(value)


@command("a", "b")
def main():
  """Compares, shows, and writes the figures where that is asked for."""
  found = run(A.value, B.value, RESAMPLES.value)
  show(found, console.Console())
  if JSON.value is not None:
    text = json.dumps(found, indent=2)
    journal.replace(buckets.at(JSON.value), f"{text}\n".encode())


if __name__ == "__main__":
  main()
