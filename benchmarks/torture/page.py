"""From the rows of tries to the table in docs/reliability.md."""

from benchmarks.torture.kinds import kinds

NAME = "torture"  # between its two marks stands the table
HEADING = ("what was done", "tries", "survived", "survived means", "seconds")
RULE = ("---", "---:", "---:", "---", "---:")


def text(found: dict) -> str:
  """The section of the page, of what results/torture.json holds."""
  tries = found["tries"]
  lines = [HEADING, RULE, *(cells(name, tries) for name in kinds())]
  table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
  good = sum(row["survived"] for row in tries)
  planned = sum(len(kind.attempts) for kind in kinds().values())
  parts = [
    f"{len(tries)} of {planned} tries with seed {found['seed']}, {good} "
    f"survived, on {found['machine']}; {found['versions']}. Seconds are those "
    f"of all tries of a row, {found['jobs']} of them at a time; kill -9 and "
    "signals come at random moments.",
    table,
  ]
  if failed := [row for row in tries if not row["survived"]]:
    lines = (f"- `{row['id']}`: {row['how']}" for row in failed)
    parts += ["What did not survive:", "\n".join(lines)]
  return "\n\n".join(parts)


def cells(name: str, tries: list[dict]) -> tuple[str, ...]:
  """A row of the table; a kind that was not tried says so."""
  kind = kinds()[name]
  mine = [row for row in tries if row["kind"] == name]
  tried = f"{len(mine)} of {len(kind.attempts)}"
  if not mine:
    why = "not tried (needs root)" if kind.is_root else "not tried"
    return (kind.said, tried, why, kind.survived, "")
  good = sum(row["survived"] for row in mine)
  seconds = sum(row["seconds"] for row in mine)
  shown = f"{good}" if good == len(mine) else f"**{good}**"
  if lost := [row for row in mine if row["lost"]]:
    rows = sum(row["lost"] for row in lost)
    shown += f", {len(lost)} of them with {rows} rows of curves lost"
  return (kind.said, tried, shown, kind.survived, f"{seconds:.0f}")
