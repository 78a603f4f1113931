"""What became of the rows that a run reads, beside its config."""

import json
import pathlib

from synpo_jax.data import accounts
from synpo_jax.runtime import hosts, journal


def write(workdir, data, held) -> None:
  """Writes down how many rows were used, changed or dropped: data.json."""
  if hosts.is_first():
    counts = {"data.pairs": data.counts}
    counts |= {"heldout.pairs": held.counts} if held else {}
    text = json.dumps(counts, indent=2, default=int)
    journal.replace(pathlib.Path(workdir) / "data.json", f"{text}\n".encode())


def list_dropped(workdir, *read) -> None:
  """Writes down the rows that are not used, of all that was read."""
  dropped = [row for data in read if data for row in data.dropped]
  path = pathlib.Path(workdir) / "dropped.jsonl"
  if hosts.is_first() and (dropped or path.exists()):
    accounts.write_dropped(path, dropped)
    hosts.say(f"dropped rows: {path}")
