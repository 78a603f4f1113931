"""What a pair run shows of its pairs: the page, and the report on it."""

from pathlib import Path

from synpo_jax.data import pairs
from synpo_jax.data.limits import Limits
from synpo_jax.pairing import captioners, ledger, page, terminal, worth
from synpo_jax.runtime import buckets, journal


def write(c, workdir: Path, summary: dict, model: dict, judge: dict) -> dict:
  """Writes pairs.html and the report; returns the summary and what is next.

  summary: of assembly.write. model, judge: settings of who wrote the captions,
  and of who judged them. No report is made of no pairs.
  """
  file = ledger.path(workdir, "pairs")
  made, told = list(journal.read(file).values()), ""
  (workdir / worth.FILE).unlink(missing_ok=True)
  if made:
    report = worth.look(pairs.read_pairs(file).pairs)
    worth.write(workdir, report)
    summary, told = summary | {"next": report["next"]}, worth.section(report)
  line = (
    f"{terminal.sentence(summary)} Captions: {captioners.named(model)}; "
    f"judge: {judge['model']}, {judge['version']}."
  )
  page.write(
    workdir / "pairs.html",
    made,
    line,
    buckets.at(c.root),
    limits=Limits(**c.limits),
    worth=told,
    **c.page,
  )
  return summary
