"""Pairs and the summary of a run, for reading in a terminal."""

from pathlib import Path

from rich import box, console, panel, table, text

from synpo_jax.data import lists
from synpo_jax.judging import trial
from synpo_jax.pairing import ledger, listing, page
from synpo_jax.pairing.criteria import WEIGHTS
from synpo_jax.runtime.terminal import printable


def sentence(summary: dict) -> str:
  """What became of the judged videos, and of the candidates left out."""
  parts = [
    f"{summary['pairs']} pairs from {summary['judged']} judged videos, "
    f"{summary['pairs_with_gap_4']} with a gap of at least 4."
  ]
  if summary["pairs"]:
    parts.append(f"Half the gaps are above {summary['median_gap']:.1f}.")
  for name, what in (
    ("dropped", "Videos without a pair"),
    ("excluded", "Candidates left out"),
  ):
    if summary[name]:
      reasons = sorted(summary[name].items(), key=lambda item: -item[1])
      listed = ", ".join(f"{reason} {count}" for reason, count in reasons)
      parts.append(f"{what}: {listed}.")
  if summary["lists"]:
    parts.append(
      f"{listing.FILE} has {summary['captions_in_lists']} captions of "
      f"{summary['lists']} videos."
    )
  if beyond := summary["captions_beyond_lists"]:
    parts.append(f"{beyond} beyond {lists.MOST} a video are not in it.")
  return " ".join(parts)


def show_summary(out: console.Console, summary: dict, workdir: Path) -> None:
  """Counts per stage, what was left out and why, where the results lie."""
  shown = table.Table("stage", "rows", box=box.SIMPLE)
  for stage, count in summary["rows"].items():
    shown.add_row(stage, str(count))
  out.print(shown)
  for name, reason in summary["unreadable"].items():
    line = printable(f"left out {name}: {reason}")
    out.print(line, style="yellow", markup=False)
  if "judge_trial" in summary:
    out.print(printable(trial.sentence(summary["judge_trial"])), markup=False)
  for who in ("captioner", "judge"):
    paid = summary.get(who, {"calls": 0})
    if paid["calls"]:
      out.print(
        f"{who}: {paid['calls']:,} calls, {paid['prompt_tokens']:,} prompt and "
        f"{paid['completion_tokens']:,} completion tokens in all"
      )
  if "pairs" in summary:
    out.print(sentence(summary))
    if "next" in summary:
      out.print(printable(f"Next: {summary['next']}"), markup=False)
    out.print(f"{ledger.path(workdir, 'pairs')}  {workdir / 'pairs.html'}")


def show_sample(out: console.Console, workdir: Path, count: int) -> None:
  """`count` pairs, evenly spread, with their differences marked."""
  rows = list(ledger.written(workdir, "pairs").values())
  if not rows:
    out.print(f"{ledger.path(workdir, 'pairs')}: no pairs to show")
  for row in page.thinned(rows, count):
    kept, lost = page.differences(row["chosen"], row["rejected"])
    gap = row["chosen_score"] - row["rejected_score"]
    out.rule(text.Text(f"{printable(row['video'])}  gap {gap:.1f}"))
    out.print(text.Text(printable(row["question"]), style="dim"))
    both = [
      _panel(row, "chosen", kept, "green"),
      _panel(row, "rejected", lost, "red"),
    ]
    if out.width >= 100:
      grid = table.Table.grid(expand=True)
      grid.add_column(ratio=1)
      grid.add_column(ratio=1)
      grid.add_row(*both)
      out.print(grid)
    else:
      out.print(*both, sep="\n")


def _panel(row, which, pieces, colour):
  scores = row["provenance"]["scores"]
  index = row["provenance"]["candidates"][which]
  parts = ", ".join(f"{name} {scores[name][index]:g}" for name in WEIGHTS)
  styled = text.Text()
  for piece, own in pieces:
    styled.append(printable(piece), style=f"bold {colour}" if own else "")
  title = text.Text(f"{which} {row[f'{which}_score']:.1f}: {parts}")
  return panel.Panel(styled, title=title, border_style=colour)
