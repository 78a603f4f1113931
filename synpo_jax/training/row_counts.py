"""What became of the rows of a run, and rows that it makes, in its workdir."""

import json
import pathlib

from synpo_jax.data import accounts
from synpo_jax.runtime import hosts, journal, mirror
from synpo_jax.training import cache_folder


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


def share(path: pathlib.Path, rows: list[dict]) -> None:
  """Writes rows into a workdir, for all processes to read; all call it.

  One writes them where the folder is common; where it is each process's own,
  in the place of one in a bucket, all do.
  """
  if hosts.is_first() or mirror.address(path.parent):
    journal.rewrite(path, rows)
  cache_folder.together(f"{path.name} written")
